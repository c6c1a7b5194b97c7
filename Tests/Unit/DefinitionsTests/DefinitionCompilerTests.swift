import Definitions
import Foundation
import PlatformCore
import PlatformTesting
import Testing

/// Definition files become one checked set, or a list of faults that each say where and what to do.
struct DefinitionCompilerTests {
    @Test(arguments: ["flights", "flights-fast"]) func theExampleCompiles(operations: String) throws {
        let set = try DefinitionCompiler.compile(try Examples.files(operations: operations))
        #expect(set.entities.count == 4)
        #expect(set.sources.count == 5)
        #expect(set.featureViews.count == 7)
        let service = try #require(set.featureServices[Name(static: "flight_delay")])
        #expect(service.joinKeys == ["carrier", "dest", "origin", "tailnum"])
        #expect(service.inputNames.count == 8 + set.featureViews.values.reduce(0) { $0 + $1.features.count })
        #expect(service.inputNames.prefix(2) == ["carrier", "origin"])
        let model = try #require(set.models[Name(static: "flight_delay")])
        #expect(model.gates[.staging]?.count == 3)
        #expect(
            model.training.folder.hasSuffix("examples/flights") || model.training.folder.hasSuffix("examples/flights/"))
        let deployment = try #require(set.deployments[Name(static: "flight_delay")])
        #expect(deployment.canary.map(\.share) == [0.1, 0.5])
        #expect(deployment.errorRateMax == 0.01)
        let monitor = try #require(set.monitors[Name(static: "flight_delay")])
        #expect(monitor.retrain?.on == ["answers_moved", "calibration_lost", "ranking_lost"])
        #expect(set.meanings.count == 4 + 5 + 7 + 5)
    }

    /// One wrong word in an example file.
    struct Slip: Sendable, CustomTestStringConvertible {
        let file: String
        let old: String
        let new: String
        /// Text whose line the fault must name.
        let marker: String
        /// Parts of its message.
        let says: [String]
        var testDescription: String { "\(file): \(new)" }

        init(_ file: String, _ old: String, _ new: String, at marker: String? = nil, _ says: String...) {
            self.file = file
            self.old = old
            self.new = new
            self.marker = marker ?? new
            self.says = says
        }
    }

    private static let line = "name: delay_max_24h, aggregate: max, column: dep_delay, window: 24h}"
    private static func ratio(_ operands: String) -> String { "name: delay_max_24h, ratio: \(operands)}" }

    static let slips: [Slip] = [
        // Misspelt keys, at every depth.
        Slip("entities", "keys: [tailnum]", "kyes: [tailnum]", "unknown key 'kyes'"),
        Slip("sources", "ingest_time: published_at", "ingest_tme: published_at", "'ingest_tme'", "'ingest_time'"),
        Slip("sources", "nullable: false}", "nulable: false}", "unknown key 'nulable'", "'nullable'"),
        Slip("sources", "severity: warn", "severty: warn", "unknown key 'severty'", "'severity'"),
        Slip("features", "aggregate: max, column", "agregate: max, column", "unknown key 'agregate'"),
        Slip("features", "ttl: 3h", "tttl: 3h", "unknown key 'tttl'", "'ttl'"),
        Slip("features", "window: 24h}", "windw: 24h}", "unknown key 'windw'"),
        Slip("features", "horizon: 2d", "horizn: 2d", "unknown key 'horizn'"),
        Slip("model", "timeout: 10m", "timout: 10m", "unknown key 'timout'", "'timeout'"),
        Slip("operations", "cooldown: 35d", "cool_down: 35d", "unknown key 'cool_down'"),
        Slip("operations", "prediction_log: block", "predictions_log: block", "'prediction_log'"),
        Slip("operations", "error_rate_max", "eror_rate_max", "unknown key 'eror_rate_max'", "'error_rate_max'"),
        // Wrong types and values.
        Slip("entities", "keys: [tailnum]", "keys: tailnum", "'keys' must be a list"),
        Slip("entities", "keys: [tailnum]", "keys: [tailnum, tailnum]", "different columns"),
        Slip("entities", "keys: [tailnum]", "keys: [\"tail num\"]", "no column name"),
        Slip("entities", "name: plane", "name: [plane]", "'name' must be text"),
        Slip("entities", "name: plane", "name: a plane", "must be a name", "'a plane'"),
        Slip("sources", "type: timestamp", "type: timestmp", "'timestmp'", "did you mean 'timestamp'"),
        Slip("sources", "nullable: false", "nullable: no", "'nullable' must be true or false"),
        Slip("sources", "event_time: scheduled_departure", "event_time: carrier", "must have type timestamp"),
        Slip("sources", "range: [50, 5500]", "range: [5500, 50]", "'range' is empty"),
        Slip("sources", "range: [50, 5500]", "range: [50]", "'range' must be [from, to]"),
        Slip("sources", "range: [50, 5500]", "range: [low, high]", "two numbers"),
        Slip("sources", "column: distance, range", "column: carrier, range", "on a number column"),
        Slip("sources", "matches: \"N[0-9A-Z]{1,5}\"", "matches: \"N[0-9\"", "no regular expression"),
        Slip("sources", "scale: 0", "scale: 10", "from 0 to 9"),
        Slip("features", "window: 24h", "window: 24x", "'window' must be a span", "'24x'"),
        Slip("features", "window: 24h", "window: 0h", "'window' must be longer than 0"),
        Slip("features", "window: 24h", "window: 24", "'window' must be a span"),
        Slip("features", "window: 24h", "window: 401d", "at most 400d"),
        Slip("features", "aggregate: mean", "aggregate: meen", "'meen'", "did you mean 'mean'"),
        Slip("features", "window: 24h", "window: [24h, 1x]", "must list spans", "'1x'"),
        Slip("features", "window: 24h", "window: []", "1 to 20 spans"),
        Slip("features", "window: 24h", "window: [24h, 1440m]", "'24h' and '1440m' are the same window"),
        Slip("features", "window: 24h", "window: [24h, 401d]", "at most 400d"),
        Slip("features", "aggregate: mean", "n: 5, aggregate: mean", "unknown key 'n'"),
        Slip("features", "aggregate: mean", "aggregate: last_n", "'last_n' needs 'n'"),
        Slip("features", "aggregate: mean", "n: 1001, aggregate: last_n", "from 1 to 1000"),
        Slip("features", "aggregate: mean", "aggregate: ratio", "ratio: [numerator, denominator]"),
        Slip("features", "aggregate: mean", "ratio: [a, b], aggregate: mean", "a ratio has no 'aggregate'"),
        Slip("features", line, ratio("[flights_7d, flights_24]"), "no feature 'flights_24'", "'flights_24h'"),
        Slip("features", line, ratio("[flights_7d]"), "[numerator, denominator]"),
        Slip("features", line, ratio("[flights_7d, flights_24h], window: 1d"), "the windows of the features"),
        Slip("features", line, ratio("[flights_7d, delay_max_24h]"), "'delay_max_24h' is itself a ratio"),
        Slip("features", line, ratio("[flights, delay], window: [1h, 7d]"), "no feature 'flights_1h'"),
        Slip("features", "column: dep_delay", "column: carrier", "needs a number column", "string"),
        Slip("features", "ttl: 3h", "ttl: [3h]", "'ttl' must be text"),
        Slip("features", "type: category", "type: categry", "did you mean 'category'"),
        Slip("features", "range: [0, 6000]", "range: [0]", "two numbers"),
        Slip("features", "range: [0, 6000]", "range: [6000, 0]", "'range' is empty"),
        Slip("features", "by: time", "by: hash", "'by' cannot be 'hash'"),
        Slip("features", "test: 15%", "test: 95%", "leave something to train on"),
        Slip("features", "validation: 15%", "validation: some", "'validation' must be a number"),
        Slip("model", "memory: 4GiB", "memory: 4 apples", "amount of memory"),
        Slip("model", "command: [\"{python}\", train.py]", "command: []", "must name a program"),
        Slip("model", "signature: present", "signature: absent", "must be 'present'"),
        Slip("model", "metric: auc", "metric: acu", "did you mean 'auc'"),
        Slip("model", "min: 0.78", "slice: tset", "twice"),
        Slip("model", "min: 0.78", "min: 0.78, max: 0.7", "'min' is above 'max'"),
        Slip("model", "min: 0.78", "each: carier, min: 0.78", "'carier' is no input", "'carrier'"),
        Slip("operations", "share: 50%", "share: 5%", "must rise"),
        Slip("operations", "share: 50%", "share: 150%", "between 0 and 100%"),
        Slip("operations", "prediction_log: block", "prediction_log: blok", "did you mean 'block'"),
        Slip("operations", "error_rate_max: 1%", "error_rate_max: 5", "write 5% or 0.05"),
        Slip("operations", "error_rate_max: 1%", "error_rate_max: -1%", "between 0 and 100%"),
        Slip("operations", "error_rate_max: 1%", "disagreement_max: 2.5", "write 2.5% or 0.025"),
        Slip("operations", "prediction_psi_max: 1.0", "prediction_psi_max: -1", "0 or more"),
        Slip("operations", "above_reference_by: 0.25", "above_reference_by: 25", "write 25% or 0.25"),
        Slip("operations", "above: 0.3", "above: -0.3", "0 or more"),
        Slip(
            "operations", "fallback: {constant: 0.16}", "fallback_on: []\nfallback: {constant: 0.16}", "names no cause"),
        Slip("operations", "sticky_by: [tailnum]", "sticky_by: [tailnumber]", "no key or request feature"),
        Slip("operations", "sticky_by: [tailnum]", "sticky_by: []", "at least one key"),
        Slip("operations", "severity: P3", "severity: P9", "'P9'", "P0, P1, P2, P3"),
        Slip("operations", "feature: latest_weather__temp", "feature: latest_weather__tmp", "'latest_weather__temp'"),
        Slip("operations", "on: [answers_moved", "on: [answers_movd", "no rule is called 'answers_movd'"),
        Slip("operations", "window: 7d", "window: 7 days", "span of time"),
        // Things that are not there.
        Slip("features", "entities: [plane]", "entities: [plan]", "no Entity is called 'plan'", "'plane'"),
        Slip("features", "entities: [plane]", "entities: []", "at least one entity"),
        Slip("features", "source: departures", "source: departure", "no Source is called", "'departures'"),
        Slip("features", "column: dep_delay", "column: dep_dely", "no column 'dep_dely'", "'dep_delay'"),
        Slip(
            "features", "entities: [carrier_origin]\nsource: departures", "entities: [carrier_origin]\nsource: planes",
            at: "entities: [carrier_origin]", "has no column 'carrier'", "entity 'carrier_origin'"),
        Slip("features", "views: [plane_departures", "views: [plane_departure", "did you mean 'plane_departures'"),
        Slip(
            "features", "views: [plane_departures", "views: [{view: plane_departures, features: [last_dely]}",
            "no feature 'last_dely'", "'last_delay'"),
        Slip("features", "service: flight_delay", "service: flights_delay", "'flight_delay'"),
        Slip("features", "spine: scheduled_flights", "spine: departures", "has no column"),
        Slip("features", "column: arr_delay\n  greater", "column: arr_dely\n  greater", "number column of 'arrivals'"),
        Slip("features", "join: [flight_id]", "join: [flight]", "'flight' must be a column of the same type"),
        Slip("features", "join: [flight_id]", "join: []", "'join'"),
        Slip("sources", "key: [flight_id]", "key: [flightid]", "no column 'flightid'", "'flight_id'"),
        Slip("sources", "column: distance", "column: distanc", "no column 'distanc'", "'distance'"),
        Slip("model", "training_set: flight_delay", "training_set: flight_dely", "no TrainingSet", "'flight_delay'"),
        Slip("operations", "model: flight_delay", "model: flight", "no Model is called 'flight'"),
        // Things that are there twice.
        Slip("entities", "name: carrier_origin", "name: plane # again", "another Entity has this name"),
        Slip("features", "name: delay_max_24h", "name: delay_mean_24h, description: again", "appears twice"),
        Slip("operations", "name: answers_moved", "name: season", at: "name: season, measure: prediction_psi", "twice"),
        // Gates for stages that have none.
        Slip("model", "  staging:", "  stagging:", "not 'stagging'", "staging, canary and production"),
        Slip("model", "  staging:", "  development:", "not 'development'"),
        Slip("model", "  staging:", "  archived:", "not 'archived'"),
        // Kinds.
        Slip("entities", "kind: Entity", "kind: Entitty", "unknown kind 'Entitty'", "'Entity'"),
        Slip("entities", "kind: Entity", "kind: Pipeline # not yet", "unknown kind 'Pipeline'", "known: Entity"),
        Slip("entities", "kind: Entity", "knd: Entity", "unknown key 'knd'"),
        // YAML itself.
        Slip("entities", "keys: [tailnum]", "keys: [tailnum", at: "description: One aircraft", "malformed"),
        Slip("entities", "keys: [tailnum]", "\tkeys: [tailnum]", "malformed"),
        Slip("entities", "keys: [tailnum]", "keys: *nothing", "malformed", "undefined alias"),
        Slip("entities", "keys: [tailnum]", "keys: [tailnum]\nkeys: [origin]", at: "keys: [tailnum]", "twice"),
        Slip("entities", "keys: [tailnum]", "keys: [tail\u{1}num]", "malformed"),
        Slip(
            "entities", "kind: Entity\nname: plane\nkeys: [tailnum]", "- kind: Entity", at: "description: One aircraft",
            "malformed"),
    ]

    @Test(arguments: slips) func everySlipIsNamedWithItsPlace(slip: Slip) throws {
        let files = try Examples.files(in: slip.file, replacing: slip.old, with: slip.new)
        let place = try Examples.place(of: slip.marker, in: files)
        let faults = try Examples.faults(files)
        let there = faults.filter { $0.subject == place }
        #expect(!there.isEmpty, "no fault at \(place): \(faults.map(\.description))")
        #expect(
            there.contains { fault in slip.says.allSatisfy { fault.message.contains($0) } },
            "\(there.map(\.description)) does not say \(slip.says)")
        for fault in faults {
            #expect(!fault.message.contains("\n") && fault.message.utf8.count < 500, "\(fault.message)")
            #expect(fault.subject.contains(".yaml"))
        }
    }

    @Test func aListOfWindowsMakesAFeatureForEach() throws {
        let files = try Examples.files(
            in: "features", replacing: Self.line,
            with: "name: delay_max_24h, aggregate: max, column: dep_delay, window: [24h, 7d]}\n"
                + "  - {name: share, ratio: [flights, delay_max_24h], window: [24h, 7d]}\n"
                + "  - {name: flights, aggregate: count, window: [24h, 7d]}")
        // Ours and the example's `flights_24h` have one name.
        let faults = try Examples.faults(files)
        #expect(faults.first?.message.contains("'flights_24h' appears twice") == true)
        let fine = files.map { file in
            DefinitionFile(
                path: file.path, folder: file.folder,
                text: file.text.replacing("name: flights, aggregate", with: "name: n, aggregate")
                    .replacing("[flights, delay", with: "[n, delay"))
        }
        let set = try DefinitionCompiler.compile(fine)
        let view = try #require(set.featureViews[Name(static: "plane_departures")])
        let share = try #require(view.features.first { $0.name == "share_7d" })
        #expect(share.ratio == RatioDefinition(numerator: "n_7d", denominator: "delay_max_24h_7d"))
        #expect(view.features.contains { $0.name == "delay_max_24h_24h" && $0.window == .days(1) })
        #expect(view.version != (try DefinitionCompiler.compile(try Examples.files())).featureViews[view.name]?.version)
    }

    @Test(arguments: [
        ("aggregate: mode, column: tailnum, window: 24h", "text"),
        ("aggregate: last_n, n: 3, column: dep_delay, window: 24h", "a list"),
    ])
    func aModelReadsNumbers(feature: String, kind: String) throws {
        let files = try Examples.files(
            in: "features", replacing: Self.line, with: "name: delay_max_24h, \(feature)}")
        let faults = try Examples.faults(files)
        #expect(
            faults.map(\.message).contains {
                $0.contains("'plane_departures__delay_max_24h'") && $0.contains("is \(kind)")
            }, "\(faults)")
    }

    @Test func oneFaultIsOneLine() throws {
        // Everything in the example leans on this source; none of it is at fault.
        let files = try Examples.files(in: "sources", replacing: "name: departures", with: "name: departures\nownr: x")
        #expect(
            try Examples.faults(files).map(\.description) == [
                "\(try Examples.place(of: "ownr", in: files)): Source 'departures': unknown key 'ownr'; did you mean 'owner'?"
            ])
    }

    @Test func theFaultsOfOneDefinitionAreAllReported() throws {
        let file = DefinitionFile(
            path: "a.yaml", folder: "/",
            text: """
                kind: Source
                name: departures
                event_time: at
                key: [id]
                schema:
                  - {name: at, type: timestamp}
                  - {name: id, type: sting}
                  - {name: 1st, type: string}
                  - {name: gate, type: string, nulable: true, unt: m}
                ---
                kind: Entity
                name: plane
                keys: [id]
                ---
                kind: FeatureView
                name: leans
                entities: [plane]
                source: departures
                features: [{name: n, aggregate: count, window: 1h}]
                """)
        let faults = try Examples.faults([file]).map(\.description)
        #expect(faults.map { $0.split(separator: ": ").first ?? "" } == ["a.yaml:7", "a.yaml:8", "a.yaml:9"])
        #expect(
            faults.last?.hasSuffix("did you mean 'nullable'?; line 9: unknown key 'unt'; did you mean 'unit'?") == true)
        let view = try Examples.files(
            in: "features", replacing: Self.line,
            with: "name: a, aggregate: max, column: dep_dely, window: 24h}\n"
                + "  - {name: b, aggregate: maxx, column: dep_delay, window: 24h}\n"
                + "  - {name: c, aggregate: max, column: dep_delay, window: 24}")
        let first = try Examples.place(of: "name: a, aggregate", in: view)
        let line = try #require(Int(first.split(separator: ":")[1]))
        #expect(try Examples.faults(view).map(\.subject) == (0..<3).map { "features.yaml:\(line + $0)" })
    }

    @Test func severalFaultsAreAllReported() throws {
        let file = DefinitionFile(
            path: "a.yaml", folder: "/",
            text: """
                kind: Entity
                name: plane
                keys: tailnum
                ---
                kind: Entity
                name: origin
                kyes: [origin]
                ---
                kind: Sorce
                name: x
                ---
                kind: Source
                name: departures
                event_time: at
                key: [id]
                schema: [{name: at, type: timestamp}, {name: id, type: sting}]
                """)
        let broken = DefinitionFile(path: "b.yaml", folder: "/", text: "kind: Entity\nname: [\n")
        let places = Set(try Examples.faults([file, broken]).map(\.subject))
        #expect(places == ["a.yaml:3", "a.yaml:7", "a.yaml:9", "a.yaml:16", "b.yaml:3"])
    }

    /// A server starts with what was in force before a bound came.
    @Test func whatWasInForceIsReadAgain() throws {
        let files = try Examples.files().map {
            DefinitionFile(
                path: $0.path, folder: $0.folder,
                text: $0.text.replacing("error_rate_max: 1%", with: "error_rate_max: 5"))
        }
        #expect(throws: DefinitionErrors.self) { try DefinitionCompiler.compile(files) }
        #expect(try DefinitionCompiler.compileAgain(files).deployments.values.first?.errorRateMax == 5)
    }

    @Test func definitionsBeforeABrokenDocumentAreNoReasonToBeSilent() throws {
        let text = "kind: Entity\nname: plane\nkeys: [tailnum]\n---\nkind: Entity\nname: }"
        let faults = try Examples.faults([DefinitionFile(path: "a.yaml", folder: "/", text: text)])
        #expect(faults.map(\.subject) == ["a.yaml:6"])
    }

    @Test func aQuoteThatIsNeverClosedIsToldWithItsBeginning() throws {
        let text = "kind: Entity\nname: \"plane\nkeys: [tailnum]\n"
        let faults = try Examples.faults([DefinitionFile(path: "a.yaml", folder: "/", text: text)])
        #expect(faults.count == 1 && faults[0].message.hasSuffix("while scanning a quoted scalar from line 2 on"))
    }

    @Test func whatAFileLacksBecauseItIsBrokenIsNoSecondFault() throws {
        let files = try Examples.files(
            in: "sources", replacing: "kind: Source\nname: departures", with: "kind: [\nname: x")
        let faults = try Examples.faults(files)
        #expect(faults.count == 1 && faults[0].subject.hasPrefix("sources.yaml:"), "\(faults)")
    }

    @Test func servicesThatIncludeEachOtherAreRefused() throws {
        func service(_ name: String, _ includes: String) -> String {
            "kind: FeatureService\nname: \(name)\nincludes: [\(includes)]\nrequest: [{name: \(name), type: number}]\n---\n"
        }
        let cycle = service("a", "b") + service("b", "c") + service("c", "a")
        let faults = try Examples.faults([DefinitionFile(path: "s.yaml", folder: "/", text: cycle)])
        let told = try #require(faults.first { $0.message.contains("cycle") })
        #expect(told.message.contains("a → b → c → a"))
        #expect(told.subject == "s.yaml:3")
        let own = try Examples.faults([DefinitionFile(path: "s.yaml", folder: "/", text: service("a", "a"))])
        #expect(own.contains { $0.message.contains("a → a") && $0.subject == "s.yaml:3" })
        let chain = service("a", "b") + service("b", "c") + service("c", "")
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "s.yaml", folder: "/", text: chain)])
        #expect(set.featureServices[Name(static: "a")]?.inputNames == ["c", "b", "a"])
        let missing = try Examples.faults([DefinitionFile(path: "s.yaml", folder: "/", text: service("aa", "ab"))])
        #expect(missing.contains { $0.message.contains("did you mean 'aa'?") })
    }

    @Test func labelAndSpineMustJoinOnTheSameType() throws {
        let files = try Examples.files().map { file in
            guard file.path == "sources.yaml" else { return file }
            let parts = file.text.components(separatedBy: "name: arrivals")
            let changed = parts[1].replacing(
                "{name: flight_id, type: string", with: "{name: flight_id, type: int64", maxReplacements: 1)
            return DefinitionFile(path: file.path, folder: file.folder, text: parts[0] + "name: arrivals" + changed)
        }
        let faults = try Examples.faults(files)
        let place = try Examples.place(of: "join: [flight_id]", in: files)
        #expect(faults.contains { $0.subject == place && $0.message.contains("same type") })
    }

    @Test func largeFilesAreRefusedUnread() throws {
        let text = "# " + String(repeating: "x", count: 2 << 20)
        let faults = try Examples.faults([DefinitionFile(path: "big.yaml", folder: "/", text: text)])
        #expect(faults.map(\.code) == [.tooLarge])
        #expect(faults.first?.subject == "big.yaml")
        #expect(throws: Never.self) {
            try DefinitionCompiler.compile([
                DefinitionFile(path: "b.yaml", folder: "/", text: String(text.prefix(1 << 20)))
            ])
        }
    }

    @Test func deepNestingIsRefused() throws {
        for text in [
            String(repeating: "[", count: 100_000), String(repeating: "{a: ", count: 100_000),
            String(repeating: "- ", count: 100_000), String(repeating: "? ", count: 100_000),
        ] {
            let faults = try Examples.faults([DefinitionFile(path: "deep.yaml", folder: "/", text: text)])
            #expect(faults.count == 1 && faults[0].subject.hasPrefix("deep.yaml"))
            #expect(!faults[0].message.contains("\n"))
        }
    }

    @Test(arguments: ["", "\n", "---\n---\n", "# only a comment\n", "~", "null\n---\n"])
    func nothingDefinedIsNoFault(text: String) throws {
        let set = try DefinitionCompiler.compile([DefinitionFile(path: "empty.yaml", folder: "/", text: text)])
        #expect(set == DefinitionSet())
    }

    // MARK: Damaged files

    @Test(arguments: UInt64(0)..<8) func damagedExamplesNeverTrap(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let originals = try Examples.files()
        let words = [
            "~", "null", "[", "]", "{", "}", "\n", "---\n", "*a", "&a ", "!!int ", "\"", "'", "| ", "%", "-1", "1e999",
            "9223372036854775808", "0x", "true", "?", ": ", "- ", "\t", "\0", "é", "999999999999d", "name: ",
        ]
        let deadline = ContinuousClock.now + .seconds(20)
        var refused = 0
        for _ in 0..<15 {
            guard ContinuousClock.now < deadline else { break }
            var files = originals
            let index = Int.random(in: 0..<files.count, using: &random)
            var lines = files[index].text.split(separator: "\n", omittingEmptySubsequences: false).map {
                Array($0.unicodeScalars)
            }
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let row = Int.random(in: 0..<lines.count, using: &random)
                let column = Int.random(in: 0...lines[row].count, using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0: lines.remove(at: row)
                case 1: lines.swapAt(row, Int.random(in: 0..<lines.count, using: &random))
                case 2: lines[row].removeSubrange(column...)
                case 3 where column < lines[row].count:
                    lines[row][column] = Unicode.Scalar(UInt8.random(in: 0..<128, using: &random))
                case 4: lines.insert(lines[row], at: row)
                default:
                    let word = words[Int.random(in: 0..<words.count, using: &random)]
                    lines[row].insert(contentsOf: word.unicodeScalars, at: column)
                }
                if lines.isEmpty { lines = [[]] }
            }
            var text = String.UnicodeScalarView()
            for line in lines { text.append(contentsOf: line + ["\n"]) }
            files[index] = DefinitionFile(path: files[index].path, folder: "/", text: String(text))
            do {
                let set = try DefinitionCompiler.compile(files)
                #expect(set.changes(from: set).isEmpty)
            } catch {
                refused += 1
                #expect(!error.errors.isEmpty)
                for fault in error.errors {
                    #expect(!fault.message.contains("\n") && fault.subject.contains(".yaml"), "\(fault)")
                }
            }
        }
        #expect(refused > 2)
    }
}
