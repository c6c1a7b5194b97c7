import ExperimentTracking
import Foundation
import PlatformCore
import Testing

/// Searches over logged models compared with a slow obvious one over everything.
@Suite struct LoggedModelSearchTests {
    let fixture: TrackingFixture
    var store: TrackingStore { fixture.store }

    init() async throws { fixture = try await TrackingFixture() }

    private func fill(_ count: Int, _ generator: inout SeededGenerator) async throws -> [LoggedModel] {
        let run = try await store.createRun(experiment: "0").info.id
        for index in 0..<count {
            let params = Bool.random(using: &generator) ? [TrackedTag("p", "\(index % 3)")] : []
            let tags = Bool.random(using: &generator) ? [TrackedTag("t", "x\(index % 4)")] : []
            let model = try await store.createLoggedModel(
                experiment: "0", name: "n\(index % 5)", modelType: index % 2 == 0 ? "tree" : nil, sourceRunID: run,
                params: params, tags: tags)
            if index % 3 == 0 { _ = try await store.finalizeLoggedModel(model.id, status: .ready) }
            for dataset in ["train", "test"] where Int.random(in: 0..<3, using: &generator) > 0 {
                let value = Int.random(in: 0..<6, using: &generator)
                try await store.logMetrics(
                    [
                        Metric(
                            "m", value == 0 ? .nan : Double(value),
                            measuredAt: EventTime(milliseconds: dataset == "train" ? 1 : 2), modelID: model.id,
                            datasetName: dataset, datasetDigest: "d")
                    ], run: run)
            }
        }
        return try await store.loggedModels(ofRun: run)
    }

    @Test(arguments: UInt64(0)..<4)
    func pagesHoldWhatAScanFinds(seed: UInt64) async throws {
        var generator = SeededGenerator(state: seed)
        let models = try await fill(40, &generator)
        func values(_ model: LoggedModel, _ dataset: String?) -> [Double] {
            model.metrics.filter { dataset == nil || $0.metric.datasetName == dataset }.map(\.metric.value)
        }
        let filters: [(text: String, dataset: String?, passes: (LoggedModel) -> Bool)] = [
            ("", nil, { _ in true }),
            ("metrics.m > 2", nil, { values($0, nil).contains { $0 > 2 } }),
            ("metrics.m > 2", "test", { values($0, "test").contains { $0 > 2 } }),
            ("metrics.m != 3", "train", { values($0, "train").contains { $0 != 3 } }),
            ("params.p = '1' AND name = 'n2'", nil, { $0.params.contains(TrackedTag("p", "1")) && $0.name == "n2" }),
            ("tags.t LIKE 'x%' AND status = 'READY'", nil, { !$0.tags.isEmpty && $0.status == .ready }),
            ("status = 'LOGGED_MODEL_READY' AND creation_timestamp > 0", nil, { $0.status == .ready }),
            ("model_type IS NULL", nil, { $0.modelType == nil }),
            ("tags.t IS NOT NULL", nil, { !$0.tags.isEmpty }),
        ]
        let newestFirst: (LoggedModel, LoggedModel) -> Bool = { ($0.createdAt, $0.id) > ($1.createdAt, $1.id) }
        for (text, dataset, passes) in filters {
            for (order, isAscending) in [("", true), ("metrics.m", true), ("metrics.m", false), ("name", true)] {
                func rank(_ model: LoggedModel) -> (rank: Int, number: Double, text: String) {
                    if order == "name" { return (0, 0, model.name) }
                    guard order == "metrics.m" else { return (0, 0, "") }
                    guard let latest = model.metrics.max(by: { $0.metric.measuredAt < $1.metric.measuredAt }) else {
                        return (2, 0, "")
                    }
                    return latest.metric.value.isNaN ? (1, 0, "") : (0, latest.metric.value, "")
                }
                let expected = models.filter(passes).sorted { left, right in
                    let (first, second) = (rank(left), rank(right))
                    if first.rank != second.rank { return first.rank < second.rank }
                    if first.number != second.number { return (first.number < second.number) == isAscending }
                    if first.text != second.text { return first.text < second.text }
                    return newestFirst(left, right)
                }
                var found: [String] = []
                var token: String?
                let size = Int.random(in: 1...25, using: &generator)
                repeat {
                    let page = try await store.searchLoggedModels(
                        experiments: ["0"], filter: SearchFilter(text),
                        datasets: dataset.map { [LoggedModelDataset(name: $0, digest: nil)] } ?? [],
                        orders: order.isEmpty
                            ? []
                            : [
                                LoggedModelOrder(
                                    SearchOrder(
                                        entity: order == "name" ? nil : "metrics", key: order == "name" ? order : "m",
                                        isAscending: isAscending))
                            ],
                        pageToken: token, countMax: size)
                    found += page.models.map(\.id)
                    token = page.nextPageToken
                } while token != nil
                #expect(found == expected.map(\.id), "\(text) by \(order) in pages of \(size)")
            }
        }
    }

    @Test func unknownKeysAndForeignTokensAreRefused() async throws {
        await #expect(throws: PlatformError.self) {
            _ = try await store.searchLoggedModels(experiments: ["0"], filter: SearchFilter("color = 'red'"))
        }
        await #expect(throws: PlatformError.self) {
            _ = try await store.searchLoggedModels(experiments: ["0"], pageToken: "abc")
        }
    }
}
