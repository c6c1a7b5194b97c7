import Definitions
import ExperimentTracking
import ModelRegistry
import PlatformCore
import Workflows

/// What a run belongs to, as parts of its page: parent, children, datasets, logged models and registered versions.
struct RunRelations {
    static let parentTag = "mlflow.parentRunId"
    private static let countMax = 100

    let run: TrackedRun
    let services: PlatformServices

    init(_ run: TrackedRun, _ services: PlatformServices) {
        self.run = run
        self.services = services
    }

    /// A link to the parent; only its identifier if there is no such run.
    func parent() async throws -> String? {
        guard let id = run.tag(Self.parentTag), !id.isEmpty else { return nil }
        guard let info = try? await services.tracking.runInfo(id) else {
            return "<code>\(HomePage.escape(String(id.prefix(64))))</code>"
        }
        return "<a href=\"/runs/\(info.id)\">\(HomePage.escape(info.name))</a>"
    }

    /// The runs whose parent this one is, with the metric that tells them apart.
    func children() async throws -> String {
        let filter = "tags.`\(Self.parentTag)` = '\(run.info.id)'"
        let page = try await services.tracking.searchRuns(
            experiments: [run.info.experimentID], filter: SearchFilter(filter),
            orders: SearchOrder.list(["attributes.start_time ASC"]), countMax: Self.countMax)
        guard !page.runs.isEmpty else { return "" }
        let reports = page.runs.map { RunReport($0) }
        let metrics = RunPage.columns(.metrics, reports, countMax: 1)
        let rows = reports.map { report in
            let info = report.run.info
            let took = info.endedAt.map { Double($0.milliseconds - info.startedAt.milliseconds) / 1000 }
            return """
                <tr><td><a href="/runs/\(info.id)">\(HomePage.escape(info.name))</a></td><td>\(RunPage.state(info.status))</td>\
                <td>\(RunPage.time(info.startedAt))</td>\
                <td data-value="\(took.map { "\($0)" } ?? "")">\(took.map(RunPage.duration) ?? "")</td>\
                \(metrics.map { RunPage.cell(report.sections[.metrics]?[$0]) }.joined())</tr>
                """
        }
        let all = "/experiments/\(run.info.experimentID)?filter=\(CataloguePage.encode(filter))"
        let count = "\(page.runs.count)\(page.nextPageToken == nil ? "" : " and more")"
        return """
            <h2>Child runs <i>\(count)</i> <small><a href="\(all)">as a table with all columns</a></small></h2>
            """
                + table(["Run", "State", "Started", "Took"] + metrics, rows)
    }

    /// Datasets that were logged as inputs.
    func datasets() -> String {
        guard !run.datasetInputs.isEmpty else { return "" }
        let rows = run.datasetInputs.prefix(Self.countMax).map { input in
            let context = input.tags.first { $0.key == "mlflow.data.context" }?.value ?? ""
            let (dataset, profile) = (input.dataset, input.dataset.profile ?? "")
            let cells = [dataset.name, context, dataset.digest, dataset.sourceType].map {
                "<td>\(HomePage.escape($0))</td>"
            }
            let texts = [dataset.source, profile].map {
                "<td class=\"text\">\(HomePage.escape($0.count > 200 ? $0.prefix(200) + "…" : $0))</td>"
            }
            return "<tr>\((cells + texts).joined())</tr>"
        }
        return "<h2>Dataset inputs <i>\(run.datasetInputs.count)</i></h2>"
            + table(["Dataset", "Context", "Digest", "Kind", "Source", "Profile"], rows)
    }

    /// Models that it logged, and versions that were registered of it.
    func models() async throws -> String {
        var html = ""
        let logged = try await services.tracking.loggedModels(ofRun: run.info.id)
        if !logged.isEmpty {
            let rows = logged.prefix(Self.countMax).map { model in
                let metrics = model.metrics.prefix(6).map {
                    "\($0.metric.key) \(RunPage.short(RunReport.json($0.metric.value)))"
                }
                return """
                    <tr><td>\(HomePage.escape(model.name))</td><td><code>\(HomePage.escape(model.id))</code></td>\
                    <td>\(HomePage.escape(model.modelType ?? ""))</td><td>\(model.status.rawValue.lowercased().replacing("logged_model_", with: ""))</td>\
                    <td>\(RunPage.time(model.createdAt))</td>\
                    <td class="text">\(HomePage.escape(metrics.joined(separator: ", ")))</td></tr>
                    """
            }
            html +=
                "<h2>Logged models <i>\(logged.count)</i></h2>"
                + table(["Model", "Identifier", "Kind", "State", "Made", "Metrics"], rows)
        }
        let versions = try await services.registry.searchVersions(
            SearchFilter("run_id = '\(run.info.id)'"), countMax: Self.countMax
        ).elements
        if !versions.isEmpty {
            let rows = versions.map { state in
                let number = state.version.number
                return """
                    <tr><td><a href="\(ModelPage.link(state.modelName, number))">\(HomePage.escape(state.modelName))</a></td>\
                    <td>\(number)</td><td>\(state.stage.rawValue)</td>\
                    <td>\(HomePage.escape(state.aliases.joined(separator: ", ")))</td>\
                    <td>\(RunPage.time(state.version.createdAt))</td></tr>
                    """
            }
            html +=
                "<h2>Registered versions <i>\(versions.count)</i></h2>"
                + table(["Model", "Version", "Stage", "Aliases", "Registered"], rows)
        }
        return html
    }

    private func table(_ header: [String], _ rows: [String]) -> String {
        let head = header.map { "<th>\(HomePage.escape($0))</th>" }.joined()
        return """
            <div class="wide"><table class="sorts"><thead><tr>\(head)</tr></thead><tbody>\(rows.joined())</tbody></table></div>
            """
    }
}
