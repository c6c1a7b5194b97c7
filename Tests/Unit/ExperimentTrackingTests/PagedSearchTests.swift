import PlatformCore
import SQLiteAdapter
import StoragePorts
import Testing

@testable import ExperimentTracking

/// Searches over experiments and traces: pages, orders, and how SQLite answers them.
struct PagedSearchTests {
    @Test(arguments: UInt64(0)..<4) func pagesOfExperimentsHoldWhatAScanFinds(seed: UInt64) async throws {
        let fixture = try await TrackingFixture()
        var generator = SeededGenerator(state: seed)
        var all: [(id: String, name: String, team: String?)] = []
        for number in 0..<40 {
            let team = ["a", "b", nil].randomElement(using: &generator) ?? nil
            let name = "e\(Int.random(in: 0..<1000, using: &generator)) \(number)"
            let id = try await fixture.store.createExperiment(
                name: name, tags: team.map { [TrackedTag("team", $0)] } ?? [])
            all.append((id, name, team))
        }
        func found(_ filter: String, _ orders: [String], _ countMax: Int) async throws -> [String] {
            var (ids, token): ([String], String?) = ([], nil)
            repeat {
                let page = try await fixture.store.searchExperiments(
                    filter: SearchFilter(filter), orders: SearchOrder.list(orders), pageToken: token,
                    countMax: countMax)
                ids += page.experiments.map(\.id)
                token = page.nextPageToken
            } while token != nil
            return ids
        }
        let byName = all.sorted { $0.name < $1.name }.map(\.id) + ["0"]
        #expect(try await found("name LIKE 'e%'", ["name ASC"], 7) == byName.dropLast())
        let team = Dictionary(all.map { ($0.id, $0.team) }, uniquingKeysWith: { $1 })
        let ofTeam = byName.reversed().filter { (team[$0] ?? nil) == "a" }
        #expect(try await found("tags.team = 'a'", ["name DESC"], 3) == ofTeam)
        let teamless = all.filter { $0.team == nil }.map(\.id).reversed() + ["0"]
        #expect(try await found("tags.team IS NULL", [], 5) == teamless)
        let ordered = try await found("", ["tags.team DESC", "name"], 6)
        let teams = ordered.map { (team[$0] ?? nil) ?? "" }
        #expect(teams == teams.sorted(by: >))
        #expect(Set(ordered).count == 41)
        await #expect(throws: PlatformError.self) {
            try await fixture.store.searchExperiments(filter: SearchFilter("colour = 'x'"))
        }
        let token = try await fixture.store.searchExperiments(countMax: 2).nextPageToken
        await #expect(throws: PlatformError.self) {
            try await fixture.store.searchExperiments(view: .all, pageToken: token)
        }
    }

    @Test(arguments: UInt64(0)..<4) func pagesOfTracesHoldWhatAScanFinds(seed: UInt64) async throws {
        let fixture = try await TrackingFixture()
        var generator = SeededGenerator(state: seed)
        let experiment = try await fixture.store.createExperiment(name: "traced")
        var all: [TraceInfo] = []
        for number in 0..<60 {
            let kind = ["a", "b", nil].randomElement(using: &generator) ?? nil
            let info = TraceInfo(
                id: "tr-\(number)", experimentID: experiment,
                requestedAt: EventTime(milliseconds: .random(in: 1000..<1020, using: &generator)),
                durationMilliseconds: [nil, 5, 6, 7].randomElement(using: &generator) ?? nil,
                state: Bool.random(using: &generator) ? .ok : .error, tags: kind.map { ["kind": $0] } ?? [:])
            all.append(try await fixture.store.startTrace(info))
        }
        func found(_ filter: String, _ orders: [String]) async throws -> [String] {
            var (ids, token): ([String], String?) = ([], nil)
            repeat {
                let page = try await fixture.store.searchTraces(
                    experiments: [experiment], filter: SearchFilter(filter), orders: SearchOrder.list(orders),
                    pageToken: token, countMax: 7)
                ids += page.traces.map(\.id)
                token = page.nextPageToken
            } while token != nil
            return ids
        }
        let newest = all.sorted { ($1.requestedAt, $0.id) < ($0.requestedAt, $1.id) }
        #expect(try await found("", []) == newest.map(\.id))
        #expect(
            try await found("status = 'OK' AND tags.kind != 'a'", [])
                == newest.filter { $0.state == .ok && $0.tags["kind"] == "b" }.map(\.id))
        let slow = newest.filter { $0.durationMilliseconds != nil }.sorted {
            ($1.durationMilliseconds ?? 0, $1.requestedAt, $0.id) < (
                $0.durationMilliseconds ?? 0, $0.requestedAt, $1.id
            )
        }
        let missing = newest.filter { $0.durationMilliseconds == nil }
        #expect(try await found("", ["execution_time_ms DESC"]) == (slow + missing).map(\.id))
        #expect(
            try await found("execution_time_ms >= 6 AND timestamp_ms < 1010", [])
                == newest.filter { $0.durationMilliseconds ?? 0 >= 6 && $0.requestedAt.milliseconds < 1010 }.map(\.id))
    }

    @Test func aPageOfRunsCanEndEarly() async throws {
        let fixture = try await TrackingFixture()
        for _ in 0..<7 { _ = try await fixture.store.createRun(experiment: "0") }
        let whole = try await fixture.store.findRuns(experiments: ["0"], countMax: 5)
        #expect(whole.token(behind: 5) == whole.nextPageToken && whole.nextPageToken != nil)
        let rest = try await fixture.store.findRuns(
            experiments: ["0"], pageToken: whole.token(behind: 2), countMax: 10)
        #expect(rest.runs.prefix(3).map(\.info.id) == whole.runs.dropFirst(2).map(\.info.id))
        #expect(rest.runs.count == 5 && rest.nextPageToken == nil && rest.token(behind: 5) == nil)
    }

    @Test func aPageOfTracesIsReadFromItsIndex() async throws {
        let fixture = try await TrackingFixture()
        let query = try TraceQuery(experiments: [1], filter: .all, orders: []).query
        let plan = try await fixture.metadata.read { transaction in
            try query.plan(behind: [.integer(5), .text("tr-1")], countMax: 100, transaction)
        }
        #expect(plan.contains { $0.contains("tracking_trace_by_time") }, "\(plan)")
        #expect(!plan.contains { $0.contains("TEMP B-TREE") }, "\(plan)")
    }

    @Test func deletingATraceLeavesNothingOfIt() async throws {
        let fixture = try await TrackingFixture()
        let experiment = try await fixture.store.createExperiment(name: "traced")
        for number in 0..<3 {
            let span = TraceSpan(
                traceID: "tr-\(number)", id: "01", parentID: nil, name: "root", kind: nil, status: "OK",
                startedAtNanoseconds: 1_000_000, endedAtNanoseconds: 3_000_000, attributes: ["a": "b"], document: "{}")
            try await fixture.store.logSpans([span], experiment: experiment)
            try await fixture.store.putArtifact([1], at: "\(experiment)/traces/tr-\(number)/artifacts/x")
        }
        _ = try await fixture.store.createAssessment(
            TraceAssessment(
                traceID: "tr-1", name: "good", kind: .feedback, content: ["value": true], source: [:],
                createdAt: fixture.store.now, updatedAt: fixture.store.now))
        #expect(try await fixture.store.deleteTraces(experiment: experiment, ids: ["tr-0", "tr-1", "tr-9"]) == 2)
        let left = try await fixture.metadata.read { transaction in
            try ["", "_tag", "_metadata", "_span", "_attribute", "_assessment", "_run"].map {
                try transaction.query("SELECT COUNT(*) AS count FROM tracking_trace\($0) WHERE trace_id <> 'tr-2'")
                    .first?.integer("count")
            }
        }
        #expect(left.allSatisfy { $0 == 0 })
        #expect(try await fixture.store.allArtifacts(below: "\(experiment)/traces").count == 1)
        #expect(try await fixture.store.trace("tr-2").spans == ["{}"])
        await #expect(throws: PlatformError.self) { try await fixture.store.deleteTraces(experiment: experiment) }
    }
}
