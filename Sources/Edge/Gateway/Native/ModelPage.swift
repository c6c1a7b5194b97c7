import Catalogue
import Definitions
import ExperimentTracking
import Foundation
import ModelRegistry
import PlatformCore
import Statistics
import Workflows

/// The pages about models: which there are, and what is known of each one's versions.
enum ModelPage {
    private static let modelCountMax = 1000
    private static let evaluationCountMax = 20
    private static let versionCountMax = 100

    private static func escape(_ text: String) -> String { HomePage.escape(text) }

    /// Where a model's page is, or the place of a version on it.
    static func link(_ model: String, _ version: Int? = nil) -> String {
        "/models/" + CataloguePage.encode(model) + (version.map { "#version-\($0)" } ?? "")
    }

    static func list(_ services: PlatformServices) async throws -> String {
        let page = try await services.registry.searchModels(countMax: modelCountMax)
        let now = services.clock.now()
        var rows: [[String]] = []
        for state in page.elements {
            let live = try await live(state.model.id, at: now, services)
            let aliases = state.aliases.sorted { $0.key < $1.key }.map { "\($0.key) → \($0.value)" }
            rows.append([
                "<a href=\"\(link(state.model.name))\">\(escape(state.model.name))</a>",
                state.latest.map { "\($0.version.number) \($0.stage.rawValue)" }.joined(separator: ", "),
                escape(aliases.joined(separator: ", ")), traffic(live), RunPage.time(state.model.updatedAt),
                escape(String((state.model.description ?? "").prefix(200))),
            ])
        }
        let known = Set(page.elements.map(\.model.id))
        for name in services.catalog.current.models.keys.sorted() where !known.contains(name) {
            rows.append(["<a href=\"\(link(name.text))\">\(escape(name.text))</a>", "none yet", "", "", "", ""])
        }
        var body = RunPage.head([]) + "<h1>Models</h1>"
        body +=
            rows.isEmpty
            ? "<p>None is registered. <code>bottega model register</code> registers what a job logged.</p>"
            : table(
                ["Model", "Newest of each stage", "Aliases", "Live", "Changed", "About"], rows.map { ("", $0) },
                wrapping: [0, 2, 5])
        if page.next != nil { body += "<p>The first \(modelCountMax); <code>bottega model list</code> lists all.</p>" }
        return RunPage.page("Models", body)
    }

    /// What is live now, of deployments that are defined.
    private static func live(
        _ model: Name, at now: EventTime, _ services: PlatformServices
    ) async throws -> ModelVersionRegistry.LiveState {
        let live = try await services.registry.live(model, at: now)
        let defined = services.catalog.current.deployments
        return live.without(live.policies.keys.filter { defined[$0] == nil })
    }

    static func model(_ id: Name, _ services: PlatformServices) async throws -> String {
        let registry = services.registry
        let definition = services.catalog.current.models[id]
        let isKnown = try await registry.isKnown(id)
        guard isKnown || definition != nil else {
            throw PlatformError(.notFound, "model/\(id)", "no such model is defined or registered")
        }
        let state = isKnown ? try await registry.modelState(named: registry.model(id: id).name) : nil
        let name = state?.model.name ?? id.text
        let live = try await live(id, at: services.clock.now(), services)
        var facts: [(String, String)] = []
        if name != id.text { facts.append(("Identity", "<code>\(escape(id.text))</code>")) }
        if let model = state?.model {
            facts.append(("Registered", "\(RunPage.time(model.createdAt)) \(escape(model.createdBy))"))
        }
        for (alias, number) in (state?.aliases ?? [:]).sorted(by: { $0.key < $1.key }) {
            facts.append(("Alias \(escape(alias))", "<a href=\"#version-\(number)\">version \(number)</a>"))
        }
        for (key, value) in shown(state?.tags ?? [:]).prefix(20) {
            facts.append((escape(key), escape(String(value.prefix(200)))))
        }
        if let item = services.catalogue.index.items(named: "model/\(id.text)").first {
            facts.append(("Lineage", "<a href=\"\(CataloguePage.link(item.identifier))\">what it is made from</a>"))
        }
        let rollouts = services.lifecycle.rollouts.values.filter { $0.model == id }
        if !rollouts.isEmpty { facts.append(("Rollouts", "<a href=\"/rollouts\">\(rollouts.count)</a>")) }
        var body = RunPage.head([("/models", "Models")]) + "<h1>\(escape(name))</h1>"
        if let text = state?.model.description { body += "<p>\(escape(String(text.prefix(4000))))</p>" }
        body += "<dl>" + facts.map { "<div><dt>\($0.0)</dt><dd>\($0.1)</dd></div>" }.joined() + "</dl>"
        if !live.policies.isEmpty {
            let policies = live.policies.values.sorted { $0.deployment < $1.deployment }
            body += "<h2>In front of traffic</h2>"
            body += table(
                ["Deployment", "Versions", "Revision", "Since", "By", "Why"],
                policies.map { revision in
                    let cells = [
                        escape(revision.deployment.text), shares(revision.policy).joined(separator: ", "),
                        "\(revision.revision)", RunPage.time(revision.time), escape(revision.actor),
                        escape(String(revision.reason.prefix(500))),
                    ]
                    return ("", cells)
                }, wrapping: [5])
        }
        let versions = try await registry.versions(of: id).sorted { $0.number > $1.number }
        body += "<h2>Versions <i>\(versions.count)</i></h2>"
        guard !versions.isEmpty else { return RunPage.page(name, body + "<p>None is registered.</p>") }
        if versions.count > versionCountMax { body += "<p>The newest \(versionCountMax).</p>" }
        var rows: [(id: String, cells: [String])] = []
        for version in versions.prefix(versionCountMax) {
            rows.append(
                (
                    "version-\(version.number)",
                    try await row(version, name, live, rollouts.contains { $0.challenger == version.number }, services)
                ))
        }
        body += table(
            ["Version", "Stage", "Aliases", "Live", "Metrics", "Gates", "Approvals", "Run", "Registered", "Notes"],
            rows, wrapping: [4, 5, 6, 9])
        body += try await evaluations(id, services)
        return RunPage.page("\(name) · Models", body)
    }

    // MARK: Parts

    private static func row(
        _ version: ModelVersion, _ name: String, _ live: ModelVersionRegistry.LiveState, _ isRolled: Bool,
        _ services: PlatformServices
    ) async throws -> [String] {
        let state = try await services.registry.versionState(version.number, of: name)
        let origin = version.candidate.origin
        var (run, made): (String, TrackedRun?) = ("–", nil)
        if !origin.runID.isEmpty {
            made = try? await services.tracking.run(origin.runID)
            run =
                (made?.info.name).map { "<a href=\"/runs/\(escape(origin.runID))\">\(escape($0))</a>" }
                ?? "<code>\(escape(String(origin.runID.prefix(64))))</code>"
        }
        let share = live.policies.values.flatMap { shares($0.policy, of: version.number) }.joined(separator: ", ")
        let rollout =
            isRolled
            ? " <a href=\"/rollouts/\(escape(version.model.text))/\(version.number)\">rollout</a>" : ""
        let card = "/api/v1/models/\(CataloguePage.encode(name))/versions/\(version.number)/card?format=html"
        return [
            "\(version.number)\(state.label.map { " <span class=\"dim\">\(escape($0))</span>" } ?? "") <a href=\"\(card)\">card</a>",
            state.stage.rawValue + rollout, escape(state.aliases.joined(separator: ", ")), share,
            metrics(version, made), try await gates(version, services.registry),
            try await approvals(version, services.registry),
            run, "\(RunPage.time(version.createdAt)) <span class=\"dim\">\(escape(version.createdBy))</span>",
            notes(state),
        ]
    }

    private static func evaluations(_ model: Name, _ services: PlatformServices) async throws -> String {
        let found = try await services.evaluations.list(model, countMax: evaluationCountMax)
        guard !found.isEmpty else { return "" }
        let rows = found.map { entry in
            let metrics = entry.metrics.sorted { $0.key < $1.key }.prefix(6)
                .map { "\(escape($0.key.replacing("_", with: " "))) \(String(format: "%.4g", $0.value))" }
            let data = entry.part.isEmpty ? "file" : "\(escape(entry.part)) part of dataset"
            return (
                "",
                [
                    "<a href=\"/evaluations/\(entry.hash.hex)\">\(RunPage.time(entry.createdAt))</a>",
                    "\(entry.version)", "\(data) <code>\(entry.data.short)</code>", "\(entry.rowCount)",
                    metrics.joined(separator: ", "), escape(entry.actor),
                ]
            )
        }
        return
            "<h2>Evaluations</h2>\(found.count == evaluationCountMax ? "<p>The newest \(evaluationCountMax).</p>" : "")"
            + table(["When", "Version", "On", "Rows", "Metrics", "By"], rows, wrapping: [4])
    }

    /// Metrics of the test slice; of a version that was not measured here, what its run says.
    private static func metrics(_ version: ModelVersion, _ run: TrackedRun?) -> String {
        let slices = version.candidate.metrics
        let slice = slices["test"] != nil ? "test" : slices.keys.min()
        let values =
            slice.flatMap { slices[$0] }.map { $0.map { ($0.key.rawValue.replacing("_", with: " "), $0.value) } }
            ?? (run?.metrics ?? []).filter { !$0.key.hasPrefix("system/") }.map { ($0.key, $0.value) }
        guard !values.isEmpty else { return "" }
        let texts = values.sorted { $0.0 < $1.0 }.prefix(8).map { "\(escape($0.0)) \(String(format: "%.4g", $0.1))" }
        return "\(texts.joined(separator: ", ")) <span class=\"dim\">\(escape(slice ?? "run"))</span>"
    }

    /// How the gates of its last judged step turned out.
    private static func gates(_ version: ModelVersion, _ registry: ModelVersionRegistry) async throws -> String {
        let steps = try await registry.transitions(of: version.model, version: version.number)
        for step in steps.reversed() where step.evidence != nil {
            guard let evidence = try? await registry.evidence(of: step) else { return "evidence is gone" }
            guard let list = evidence["gates"]?.arrayValue, !list.isEmpty else { continue }
            let passed = list.filter { $0["passed"]?.boolValue == true }.count
            let lines = list.map { gate in
                let mark = gate["passed"]?.boolValue == true ? "✓" : "✗"
                return "<div>\(mark) \(escape(gate["gate"]?.stringValue ?? ""))</div>"
            }
            return """
                <details><summary>\(passed) of \(list.count) for \(step.to.rawValue)</summary>\(lines.joined())\
                <div class="dim">\(RunPage.time(step.time)) \(escape(step.actor)): \(escape(String(step.reason.prefix(500))))</div></details>
                """
        }
        return "–"
    }

    private static func approvals(_ version: ModelVersion, _ registry: ModelVersionRegistry) async throws -> String {
        let given = try await registry.approvals(of: version.model, version.number)
        return given.suffix(10).map { approval in
            let verb = approval.verdict == .approve ? "approved" : "objected to"
            return """
                <div title="\(escape(String(approval.reason.prefix(500))))">\(escape(approval.actor)) \(verb) \(approval.stage.rawValue) \
                <span class="dim">\(RunPage.time(approval.time))</span></div>
                """
        }.joined()
    }

    /// Tags for people: an import's own mark is none.
    private static func shown(_ tags: [String: String]) -> [(key: String, value: String)] {
        tags.filter { $0.key != "bottega.imported" }.sorted { $0.key < $1.key }
    }

    private static func notes(_ state: VersionState) -> String {
        let tags = shown(state.tags).prefix(10).map { "\($0.key): \(String($0.value.prefix(100)))" }
        let description = state.description.map { [String($0.prefix(300))] } ?? []
        return (description + tags).map {
            "<div>\(escape($0))</div>"
        }.joined()
    }

    private static func traffic(_ live: ModelVersionRegistry.LiveState) -> String {
        live.policies.values.sorted { $0.deployment < $1.deployment }.flatMap { shares($0.policy) }.joined(
            separator: ", ")
    }

    private static func shares(_ policy: DeploymentPolicy) -> [String] {
        (policy.variants.map(\.version) + policy.shadows).flatMap { number in
            shares(policy, of: number).map { "version \(number): \($0)" }
        }
    }

    private static func shares(_ policy: DeploymentPolicy, of version: Int) -> [String] {
        policy.variants.filter { $0.version == version }.map { String(format: "%.4g %%", $0.share * 100) }
            + policy.shadows.filter { $0 == version }.map { _ in "shadow" }
    }

    private static func table(
        _ header: [String], _ rows: [(id: String, cells: [String])], wrapping: Set<Int> = []
    ) -> String {
        let head = header.map { "<th>\($0)</th>" }.joined()
        let lines = rows.map { row in
            let cells = row.cells.enumerated().map { place, cell in
                "<td\(wrapping.contains(place) ? " class=\"text\"" : "")>\(cell)</td>"
            }
            return "<tr\(row.id.isEmpty ? "" : " id=\"\(row.id)\"")>\(cells.joined())</tr>"
        }
        return """
            <div class="wide"><table class="sorts"><thead><tr>\(head)</tr></thead><tbody>\(lines.joined())</tbody></table></div>
            """
    }
}
