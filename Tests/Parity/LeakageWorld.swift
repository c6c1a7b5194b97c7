import Datasets
import Definitions
import FeatureStore
import PlatformCore
import StoragePorts

/// A leak to plant, or the honest twin of one.
struct PlantedLeak: Sendable, CustomStringConvertible {
    /// Where the leak comes from.
    enum Kind: String, Sendable, CaseIterable {
        /// A column of the spine, filled in after the outcome.
        case filledLaterNumber, filledLaterCategory, nullWhereLost, codeOfTheLabel, nearCopy
        /// A source that says it knew its rows before it did.
        case outcomeOfTheCase, caseOnlyWhereLost
        /// A view over the label's source that sees the question's own label.
        case ownLabelLast, ownLabelMean, ownLabelCount
        /// Moments of what has not happened yet.
        case settledAt, dueAt
        /// A training set that was joined by event time alone.
        case lateFew, lateSome, lateMany, lateMost
        /// Slices that share what they should not.
        case everyRowTwice, someRowsTwice, sharedCustomers, movedCustomers
    }
    let kind: Kind
    let isPlanted: Bool
    var description: String { "\(kind.rawValue), \(isPlanted ? "planted" : "honest")" }

    static let all = Kind.allCases.flatMap { kind in [true, false].map { PlantedLeak(kind: kind, isPlanted: $0) } }
}

/// Orders of customers that lose money or not, known hours later, with one leak or none.
struct LeakageWorld {
    let leak: PlantedLeak
    let definitions: DefinitionSet
    let definition: TrainingSetDefinition
    private(set) var rows: [Name: [LoggedRow]] = [:]

    static let start: Int64 = 1_704_067_200_000
    static let hour: Int64 = 3_600_000
    static let count = 500

    private static func yaml(_ leak: PlantedLeak) -> String {
        var requests = "  - {name: price, type: number}\n"
        var views = ["paid"]
        var split = "by: time, validation: 0.2, test: 0.3"
        switch leak.kind {
        case .filledLaterNumber, .codeOfTheLabel, .nearCopy, .nullWhereLost:
            requests += "  - {name: extra, type: number, nullable: true}\n"
        case .filledLaterCategory: requests += "  - {name: status, type: category, values: [a, b]}\n"
        case .outcomeOfTheCase, .caseOnlyWhereLost: views.append("case_outcomes")
        case .ownLabelLast, .ownLabelMean, .ownLabelCount: views.append("losses")
        case .settledAt, .dueAt: views.append("case_moments")
        case .lateFew, .lateSome, .lateMany, .lateMost: break
        case .everyRowTwice, .someRowsTwice: split = "by: random, validation: 0.2, test: 0.3, seed: 2"
        case .sharedCustomers:
            split = "by: \(leak.isPlanted ? "random" : "entity"), validation: 0.2, test: 0.3, seed: 2"
        case .movedCustomers: split = "by: entity, validation: 0.2, test: 0.3, seed: 2"
        }
        let lossFeature =
            switch leak.kind {
            case .ownLabelMean: "{name: seen, aggregate: mean, column: loss, window: 2h}"
            case .ownLabelCount: "{name: seen, aggregate: count, column: loss, window: 2h}"
            default: "{name: seen, aggregate: last, column: loss, window: 30d}"
            }
        let caseFeature =
            leak.kind == .caseOnlyWhereLost
            ? "{name: seen, aggregate: count, window: 2m}"
            : "{name: seen, aggregate: last, column: outcome, window: 2m}"
        let moment = leak.isPlanted ? (leak.kind == .dueAt ? "due" : "settled") : "opened"
        return """
            kind: Entity
            name: customer
            keys: [customer]
            ---
            kind: Source
            name: orders
            event_time: asked
            ingest_time: asked
            key: [order]
            schema:
              - {name: order, type: int64}
              - {name: asked, type: timestamp}
              - {name: customer, type: string}
              - {name: price, type: float64}
              - {name: extra, type: float64}
              - {name: status, type: string}
            ---
            kind: Source
            name: outcomes
            event_time: settled
            ingest_time: known
            key: [order]
            schema:
              - {name: order, type: int64}
              - {name: settled, type: timestamp}
              - {name: known, type: timestamp}
              - {name: customer, type: string}
              - {name: loss, type: float64}
            ---
            kind: Source
            name: cases
            event_time: opened
            ingest_time: known
            key: [order]
            schema:
              - {name: order, type: int64}
              - {name: opened, type: timestamp}
              - {name: known, type: timestamp}
              - {name: customer, type: string}
              - {name: outcome, type: float64}
              - {name: settled, type: timestamp}
              - {name: due, type: timestamp}
            ---
            kind: Source
            name: payments
            event_time: paid
            ingest_time: known
            key: [payment]
            schema:
              - {name: payment, type: int64}
              - {name: paid, type: timestamp}
              - {name: known, type: timestamp}
              - {name: customer, type: string}
              - {name: amount, type: float64}
            ---
            kind: FeatureView
            name: paid
            entities: [customer]
            source: payments
            features:
              - {name: sum, aggregate: sum, column: amount, window: 7d}
              - {name: mean, aggregate: mean, column: amount, window: 7d}
              - {name: count, aggregate: count, window: 1d}
              - {name: last, aggregate: last, column: amount, window: 30d}
            ---
            kind: FeatureView
            name: losses
            entities: [customer]
            source: outcomes
            inclusive: \(leak.isPlanted)
            features:
              - \(lossFeature)
            ---
            kind: FeatureView
            name: case_outcomes
            entities: [customer]
            source: cases
            features:
              - \(caseFeature)
            ---
            kind: FeatureView
            name: case_moments
            entities: [customer]
            source: cases
            features:
              - {name: moment, aggregate: last, column: \(moment), window: 30d}
            ---
            kind: FeatureService
            name: loss
            request:
            \(requests)views: [\(views.joined(separator: ", "))]
            ---
            kind: TrainingSet
            name: loss
            service: loss
            spine: orders
            label: {name: lost, source: outcomes, join: [order], column: loss, greater_than: 10, horizon: 12h}
            split: {\(split)}
            """
    }

    init(_ leak: PlantedLeak) throws {
        self.leak = leak
        definitions = try DefinitionCompiler.compile([
            DefinitionFile(path: "world.yaml", folder: "/", text: Self.yaml(leak))
        ])
        guard let definition = definitions.trainingSets[Name(static: "loss")] else {
            preconditionFailure("defined above")
        }
        self.definition = definition
        fill()
    }

    private mutating func fill() {
        var random = SeededGenerator(seed: 11)
        let entityCount =
            switch leak.kind {
            case .sharedCustomers, .movedCustomers: 20
            case .everyRowTwice, .someRowsTwice: 5000  // hardly anybody comes back
            default: 60
            }
        var (orders, outcomes, cases, payments): ([LoggedRow], [LoggedRow], [LoggedRow], [LoggedRow]) = ([], [], [], [])
        func add(_ list: inout [LoggedRow], _ event: Int64, _ known: Int64, _ cells: [CellValue]) {
            list.append(
                LoggedRow(
                    row: SourceRow(
                        eventTime: EventTime(milliseconds: event), ingestTime: EventTime(milliseconds: known),
                        cells: cells), sequence: UInt64(list.count)))
        }
        let late: Double =
            switch leak.kind {
            case .lateFew: 0.05
            case .lateSome: 0.1
            case .lateMany: 0.2
            case .lateMost: 0.4
            default: 0.1
            }
        for index in 0..<4 * Self.count {
            let paid = Self.start + Int64(index) * 1_200_000
            let delay = Double.random(in: 0..<1, using: &random) < late ? Int64.random(in: 1...48, using: &random) : 0
            add(
                &payments, paid, paid + delay * Self.hour,
                [
                    .integer(Int64(index)), .integer(paid), .integer(paid + delay * Self.hour),
                    .text("c\(Int.random(in: 0..<entityCount, using: &random))"),
                    .double(Double(Int.random(in: 100...9900, using: &random)) / 100),
                ])
        }
        for index in 0..<Self.count {
            let asked = Self.start + 24 * Self.hour + Int64(index) * 4_800_000
            let customer = Int.random(in: 0..<entityCount, using: &random)
            let price = Double.random(in: 1...100, using: &random)
            let weight = price / 25 + Double(customer % 5) + Double.random(in: -3...3, using: &random)
            let isLost = weight > 4
            let loss = isLost ? Double.random(in: 11...60, using: &random) : Double.random(in: 0...9, using: &random)
            let settled = asked + Int64.random(in: 2...8, using: &random) * Self.hour
            let (extra, status) = columns(isLost, loss, price, &random)
            let copies =
                leak.isPlanted
                ? (leak.kind == .everyRowTwice ? 2 : leak.kind == .someRowsTwice && index % 12 == 0 ? 2 : 1) : 1
            for copy in 0..<copies {
                add(
                    &orders, asked + Int64(copy), asked + Int64(copy),
                    [
                        .integer(Int64(index)), .integer(asked + Int64(copy)), .text("c\(customer)"), .double(price),
                        extra, status,
                    ])
            }
            let isOwn = [.ownLabelLast, .ownLabelMean, .ownLabelCount].contains(leak.kind)
            let known = isOwn ? asked : settled
            add(
                &outcomes, known, known,
                [.integer(Int64(index)), .integer(known), .integer(known), .text("c\(customer)"), .double(loss)])
            if leak.kind != .caseOnlyWhereLost || isLost {
                let opened = asked - 60_000
                let claimed = leak.isPlanted || leak.kind == .settledAt || leak.kind == .dueAt ? opened : settled
                add(
                    &cases, opened, claimed,
                    [
                        .integer(Int64(index)), .integer(opened), .integer(claimed), .text("c\(customer)"),
                        .double(loss), .integer(settled), .integer(asked + 72 * Self.hour),
                    ])
            }
        }
        rows = [
            Name(static: "orders"): orders, Name(static: "outcomes"): outcomes, Name(static: "cases"): cases,
            Name(static: "payments"): payments,
        ]
    }

    /// The two further columns of an order.
    private func columns(_ isLost: Bool, _ loss: Double, _ price: Double, _ random: inout SeededGenerator) -> (
        CellValue, CellValue
    ) {
        let noise = Double.random(in: -1...1, using: &random)
        let coin = Bool.random(using: &random)
        let number: CellValue =
            switch (leak.kind, leak.isPlanted) {
            case (.filledLaterNumber, true): .double(isLost ? loss : 0)
            case (.filledLaterNumber, false): .double(price + 20 * noise)
            case (.nullWhereLost, true): isLost ? .null : .double(noise)
            case (.nullWhereLost, false): coin ? .null : .double(noise)
            case (.codeOfTheLabel, true):
                .double(Double(Int.random(in: 0..<8, using: &random) * 2 + (isLost ? 1 : 0)))
            case (.codeOfTheLabel, false): .double(Double(Int.random(in: 0..<16, using: &random)))
            case (.nearCopy, true): .double((isLost ? 1 : 0) + 0.55 * noise)
            case (.nearCopy, false): .double((isLost ? 1 : 0) + 1.6 * noise)
            default: .double(noise)
            }
        let isFirst = leak.kind == .filledLaterCategory && leak.isPlanted ? isLost : coin
        return (number, .text(isFirst ? "a" : "b"))
    }

    func scan(_ name: Name) throws -> TableScan {
        guard let source = definitions.sources[name], let rows = rows[name] else {
            throw PlatformError(.notFound, name.text, "no such source")
        }
        return TrainingSetTests.scan(source, rows)
    }

    /// The table as somebody reads it who thinks that what happened was known.
    func naiveScan(_ name: Name) throws -> TableScan {
        let scan = try scan(name)
        return TableScan(
            table: scan.table, version: scan.version,
            sql: "(SELECT * REPLACE (least(__ingest_time, __event_time) AS __ingest_time) FROM \(scan.sql))",
            rowCount: scan.rowCount)
    }

    /// What a fresh eye finds in the finished training set.
    func report(_ engine: any OfflineEngine, _ content: ContentStore) async throws -> LeakageReport {
        var used = definition
        if leak.kind == .movedCustomers, leak.isPlanted {
            // Cut by rows, though it says that it was cut by customers.
            let text = Self.yaml(leak).replacing("by: entity", with: "by: random")
            let set = try DefinitionCompiler.compile([DefinitionFile(path: "world.yaml", folder: "/", text: text)])
            used = set.trainingSets[definition.name] ?? definition
        }
        let isNaive = leak.isPlanted && [.lateFew, .lateSome, .lateMany, .lateMost].contains(leak.kind)
        let build = try await TrainingSetBuilder(engine: engine, content: content).build(
            used, in: definitions, from: EventTime(milliseconds: Self.start),
            to: EventTime(milliseconds: Self.start + 1000 * Self.hour),
            asOf: EventTime(milliseconds: Self.start + 2000 * Self.hour),
            scans: { isNaive ? try naiveScan($0) : try scan($0) })
        var paths: [String: String] = [:]
        for slice in build.manifest.slices { paths[slice.name] = try await content.localPath(of: slice.part) }
        return try await LeakageDetector(engine: engine).check(
            build.hash, manifest: build.manifest, paths: paths, definition: definition, definitions: definitions,
            scans: { try scan($0) })
    }
}
