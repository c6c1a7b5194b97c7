public import Definitions
public import PlatformCore
public import Statistics

/// What a card tells of a version beside what was registered.
public struct ModelCardFacts: Sendable {
    /// What the model is for, from its definition.
    public var purpose = ""
    /// The team that owns it, from its definition.
    public var owner = ""
    /// Its name; the identity if it has none of its own.
    public var name: String?
    /// Its semantic version.
    public var label: String?
    /// The steps of its life.
    public var transitions: [StageTransition] = []
    /// Who agreed and who did not.
    public var approvals: [Approval] = []
    /// What the gates of each stage said when it was entered last.
    public var gates: [ModelStage: [GateResult]] = [:]
    /// Metrics on the test slice by the values of a column.
    public var slices: [Slice] = []
    /// Gates that guard its stages.
    public var definition: [ModelStage: [GateDefinition]] = [:]
    /// Intervals of metrics on the test slice.
    public var intervals: [MetricName: ConfidenceInterval] = [:]
    /// The draws behind the intervals.
    public var bootstrap = Bootstrap()
    /// Curves and decisions on the test slice; `nil` for what cannot be measured again.
    public var report: EvaluationReport?
    /// Evaluations that are kept as evidence of the version, the newest first.
    public var evaluations: [Evaluation] = []

    /// A kept evaluation in a line.
    public struct Evaluation: Sendable, Hashable {
        let hash: ContentHash
        let time: EventTime
        let actor: String
        let data: String
        let rowCount: Int
        let metrics: [String: Double]
        /// Makes a line.
        ///
        /// - Parameter data: what it was measured on, for people.
        public init(
            hash: ContentHash, time: EventTime, actor: String, data: String, rowCount: Int, metrics: [String: Double]
        ) {
            self.hash = hash
            self.time = time
            self.actor = actor
            self.data = data
            self.rowCount = rowCount
            self.metrics = metrics
        }
    }

    /// Rows of the test slice with one value of a column.
    public struct Slice: Sendable, Hashable {
        let column: String
        let value: String
        let rowCount: Int
        let metrics: [MetricName: Double]
        /// Makes a slice.
        public init(column: String, value: String, rowCount: Int, metrics: [MetricName: Double]) {
            self.column = column
            self.value = value
            self.rowCount = rowCount
            self.metrics = metrics
        }
    }

    /// Makes facts; set what is known.
    public init() {}
}

/// A page about one version for people, made of recorded facts alone.
public enum ModelCard {
    private enum Block {
        case text(String)
        case table(head: [String], rows: [[String]])
        /// Where pages have pictures.
        case charts
    }

    /// The page as Markdown.
    public static func markdown(_ version: ModelVersion, _ facts: ModelCardFacts) -> String {
        var lines = ["# \(plain(title(version, facts)))", ""]
        for section in sections(version, facts) {
            if let heading = section.heading { lines += ["## \(heading)", ""] }
            for block in section.blocks {
                switch block {
                case .charts: break
                case .text(let text): lines += [plain(text), ""]
                case .table(let head, let rows):
                    func line(_ cells: [String]) -> String { "| " + cells.map(cell).joined(separator: " | ") + " |" }
                    lines += [line(head), "|" + head.map { _ in "---|" }.joined()] + rows.map(line) + [""]
                }
            }
        }
        return lines.joined(separator: "\n")
    }

    /// What stands in the page's `body`: no scripts, nothing from elsewhere.
    ///
    /// - Parameter charts: pictures of `facts.report` as HTML; they stand below the metrics.
    public static func htmlBody(_ version: ModelVersion, _ facts: ModelCardFacts, charts: String) -> String {
        var body = "<h1>\(escaped(title(version, facts)))</h1>\n"
        for section in sections(version, facts) {
            if let heading = section.heading { body += "<h2>\(escaped(heading))</h2>\n" }
            for block in section.blocks {
                switch block {
                case .charts: body += charts
                case .text(let text): body += "<p>\(escaped(text))</p>\n"
                case .table(let head, let rows):
                    func line(_ cells: [String], _ tag: String) -> String {
                        "<tr>" + cells.map { "<\(tag)>\(escaped($0))</\(tag)>" }.joined() + "</tr>"
                    }
                    let header = head.allSatisfy(\.isEmpty) ? "" : line(head, "th") + "\n"
                    body += "<table>\n\(header)\(rows.map { line($0, "td") }.joined(separator: "\n"))\n</table>\n"
                }
            }
        }
        return body
    }

    /// The version's name for people, as plain text.
    public static func title(_ version: ModelVersion, _ facts: ModelCardFacts) -> String {
        "\(facts.name ?? version.model.text) version \(version.number)" + (facts.label.map { " (\($0))" } ?? "")
    }

    // MARK: What is said

    private static func sections(_ version: ModelVersion, _ facts: ModelCardFacts) -> [(
        heading: String?, blocks: [Block]
    )] {
        let candidate = version.candidate
        let own = facts.transitions.filter { $0.version == version.number }
        var use = [facts.purpose, candidate.description].filter { !$0.isEmpty }.map(Block.text)
        if use.isEmpty { use = [.text("Nobody has said what it is for.")] }
        var sections: [(heading: String?, blocks: [Block])] = [
            (nil, use), (nil, [overview(version, facts, own.last?.to)]),
        ]
        if !candidate.metrics.isEmpty { sections.append(("Metrics", metrics(candidate, facts) + [.charts])) }
        if !facts.slices.isEmpty { sections.append(("Slices", [slices(facts.slices)])) }
        if !facts.evaluations.isEmpty { sections.append(("Evaluations", evaluations(facts.evaluations))) }
        if !facts.gates.isEmpty {
            let rows = facts.gates.sorted { $0.key < $1.key }.flatMap { stage, gates in
                gates.map { [stage.rawValue, $0.gate, $0.passed ? "holds" : "does not hold", $0.detail] }
            }
            sections.append(("Gates", [.table(head: ["into", "gate", "", "why"], rows: rows)]))
        }
        sections.append(("Limits", limits(version, facts).map(Block.text)))
        if let signature = candidate.signature {
            sections.append(("Inputs", [fields(signature.inputs)]))
            sections.append(("Outputs", [fields(signature.outputs)]))
        }
        if !candidate.origin.parameters.isEmpty {
            let rows = candidate.origin.parameters.sorted { $0.key < $1.key }.map { [$0.key, $0.value] }
            sections.append(("Parameters", [.table(head: ["name", "value"], rows: rows)]))
        }
        if !facts.approvals.isEmpty {
            let rows = facts.approvals.map {
                [
                    $0.time.description, $0.stage.rawValue, $0.actor, $0.verdict.rawValue, $0.reason, $0.seal.short,
                ]
            }
            sections.append(
                ("Approvals", [.table(head: ["when", "stage", "who", "verdict", "why", "evidence"], rows: rows)]))
        }
        let history = own.map { step in
            [
                step.time.description, (step.from.map { "\($0.rawValue) → " } ?? "") + step.to.rawValue, step.actor,
                step.reason, step.evidence?.short ?? "",
            ]
        }
        sections.append(("History", [.table(head: ["when", "step", "who", "why", "evidence"], rows: history)]))
        return sections
    }

    private static func overview(_ version: ModelVersion, _ facts: ModelCardFacts, _ stage: ModelStage?) -> Block {
        let candidate = version.candidate
        let origin = candidate.origin
        var code = "unknown"
        if !origin.commit.isEmpty {
            code = origin.commit + (origin.branch.isEmpty ? "" : " on \(origin.branch)")
            if origin.isDirty { code += ", with uncommitted changes" }
        }
        let artifact = candidate.artifact
        let rows: [(String, String)] = [
            ("Stage", (stage ?? .development).rawValue), ("Owner", facts.owner),
            ("Registered", "\(version.createdAt) by \(version.createdBy)"),
            (
                "Artifact",
                "\(artifact.fileName), \(artifact.format), \(artifact.byteCount) bytes, SHA-256 \(artifact.hash)"
            ),
            ("Trained on", origin.dataset.map { "dataset \($0)" } ?? "no training set of this platform"),
            ("Features", origin.serviceVersion.map { "service version \($0)" } ?? ""), ("Run", origin.runID),
            ("Job", origin.jobID), ("Code", code), ("Seed", origin.givenSeed.map(String.init) ?? "not recorded"),
            ("Environment", origin.environment.map { $0.hex } ?? "not recorded"),
        ]
        return .table(head: ["", ""], rows: rows.filter { !$0.1.isEmpty }.map { [$0.0, $0.1] })
    }

    private static func metrics(_ candidate: VersionCandidate, _ facts: ModelCardFacts) -> [Block] {
        let names = Set(candidate.metrics.values.flatMap(\.keys)).sorted { $0.rawValue < $1.rawValue }
        let parts = candidate.metrics.keys.sorted()
        let counts = ["rows"] + parts.map { candidate.rows[$0].map(String.init) ?? "" }
        let rows = names.map { name in [name.rawValue] + parts.map { candidate.metrics[$0]?[name].map(number) ?? "" } }
        var blocks: [Block] = [.table(head: [""] + parts, rows: [counts] + rows)]
        if !facts.intervals.isEmpty {
            let rows = facts.intervals.sorted { $0.key.rawValue < $1.key.rawValue }.map { name, interval in
                [
                    name.rawValue, number(interval.estimate),
                    "\(number(interval.lower)) to \(number(interval.upper))",
                ]
            }
            let draws = facts.bootstrap
            let percent = (draws.confidence * 1e4).rounded() / 100
            blocks.append(
                .text(
                    "On the test slice, with \(percent == percent.rounded() ? String(Int(percent)) : "\(percent)") % intervals of \(draws.replicateCount) bootstrap "
                        + "draws (seed \(draws.seed)):"))
            blocks.append(.table(head: ["metric", "value", "interval"], rows: rows))
        }
        return blocks
    }

    private static func slices(_ slices: [ModelCardFacts.Slice]) -> Block {
        let names = Set(slices.flatMap(\.metrics.keys)).sorted { $0.rawValue < $1.rawValue }
        return .table(
            head: ["column", "value", "rows"] + names.map(\.rawValue),
            rows: slices.map { slice in
                [slice.column, slice.value, String(slice.rowCount)]
                    + names.map { slice.metrics[$0].map(number) ?? "undefined" }
            })
    }

    /// Most evaluations that a card lists.
    private static let evaluationCountMax = 10

    private static func evaluations(_ all: [ModelCardFacts.Evaluation]) -> [Block] {
        let shown = all.prefix(evaluationCountMax).map { evaluation in
            let metrics = evaluation.metrics.sorted { $0.key < $1.key }.prefix(6).map {
                "\($0.key) \(number($0.value))"
            }
            return [
                evaluation.time.description, evaluation.actor, evaluation.data, String(evaluation.rowCount),
                metrics.joined(separator: ", "), evaluation.hash.short,
            ]
        }
        let more = all.count - shown.count
        return [.table(head: ["when", "who", "on", "rows", "metrics", "evidence"], rows: Array(shown))]
            + (more > 0 ? [.text("\(more) earlier ones are kept too.")] : [])
    }

    private static func limits(_ version: ModelVersion, _ facts: ModelCardFacts) -> [String] {
        let candidate = version.candidate
        var limits: [String] = []
        if !version.isSigned { limits.append("It has no signature, so it cannot be served.") }
        if candidate.metrics.isEmpty { limits.append("The platform did not measure it.") }
        if candidate.origin.dataset == nil { limits.append("What it was trained on is not known to this platform.") }
        if candidate.origin.commit.isEmpty || candidate.origin.isDirty {
            limits.append("The code that trained it cannot be named exactly.")
        }
        if let rows = candidate.rows["test"], rows < 1000 {
            limits.append("It was tested on \(rows) rows alone.")
        }
        for input in candidate.signature?.inputs ?? [] {
            let range = [input.minimum.map { "≥ \(number($0))" }, input.maximum.map { "≤ \(number($0))" }]
                .compactMap { $0 }.joined(separator: ", ")
            if !range.isEmpty { limits.append("\(input.name) is taken where it is \(range).") }
        }
        let asked = Set(facts.definition.values.joined())
        let hasFairness = asked.contains { if case .fairness = $0 { true } else { false } }
        if !hasFairness { limits.append("No gate looks at fairness between groups.") }
        return limits
    }

    private static func fields(_ fields: [SignatureField]) -> Block {
        .table(
            head: ["name", "kind", "type", "may be missing"],
            rows: fields.map { field in
                let kind =
                    field.kind == .category ? "one of \(field.categories.count) categories" : field.kind.rawValue
                return [field.name, kind, field.type ?? "", field.isNullable ? "yes" : "no"]
            })
    }

    // MARK: How it is written

    private static func number(_ value: Double) -> String { String((value * 1e5).rounded() / 1e5) }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;")
    }

    /// Text that cannot become markup: names and reasons come from people.
    private static func plain(_ text: String) -> String {
        text.replacing("\\", with: "\\\\").replacing("<", with: "&lt;").replacing("\r\n", with: " ")
            .replacing("\n", with: " ")
    }

    /// Text that also stays in its cell.
    private static func cell(_ text: String) -> String { plain(text).replacing("|", with: "\\|") }
}
