import Definitions
import PlatformCore
import Statistics

/// A page about one version for people, made of recorded facts alone.
public enum ModelCard {
    /// The page as Markdown.
    ///
    /// - Parameters:
    ///   - version: what it is about.
    ///   - transitions: the steps of its life.
    ///   - purpose: what the model is for, from its definition.
    ///   - owner: the team that owns it, from its definition.
    public static func markdown(
        _ version: ModelVersion, transitions: [StageTransition], purpose: String = "", owner: String = ""
    ) -> String {
        let candidate = version.candidate
        let origin = candidate.origin
        var lines = ["# \(version.model) version \(version.number)", ""]
        for text in [purpose, candidate.description] where !text.isEmpty { lines += [text, ""] }
        let stage = transitions.last { $0.version == version.number }?.to.rawValue ?? ModelStage.development.rawValue
        let code =
            origin.commit.isEmpty
            ? "unknown"
            : "`\(origin.commit)`" + (origin.branch.isEmpty ? "" : " on `\(origin.branch)`")
                + (origin.isDirty ? ", with uncommitted changes" : "")
        let trainedOn = origin.dataset.map { "dataset `\($0)`" } ?? "no training set of this platform"
        let features = origin.serviceVersion.map { "service version `\($0)`" } ?? ""
        let environment = origin.environment.map { "`\($0)`" } ?? "not recorded"
        let facts: [(String, String)] = [
            ("Stage", stage), ("Owner", owner),
            ("Registered", "\(version.createdAt) by \(version.createdBy)"),
            (
                "Artifact",
                "`\(candidate.artifact.fileName)`, \(candidate.artifact.format), "
                    + "\(candidate.artifact.byteCount) bytes, SHA-256 `\(candidate.artifact.hash)`"
            ),
            ("Trained on", trainedOn), ("Features", features),
            ("Run", origin.runID), ("Job", origin.jobID), ("Code", code), ("Seed", String(origin.seed)),
            ("Environment", environment),
        ]
        lines += table(["", ""], facts.filter { !$0.1.isEmpty }.map { [$0.0, $0.1] })
        if !candidate.metrics.isEmpty {
            let names = Set(candidate.metrics.values.flatMap(\.keys)).sorted { $0.rawValue < $1.rawValue }
            lines += ["## Metrics", ""]
            lines += table(
                ["slice", "rows"] + names.map(\.rawValue),
                candidate.metrics.keys.sorted().map { slice in
                    [slice, candidate.rows[slice].map(String.init) ?? ""]
                        + names.map { name in
                            candidate.metrics[slice]?[name].map { String(($0 * 1e5).rounded() / 1e5) } ?? ""
                        }
                })
        }
        if !origin.parameters.isEmpty {
            lines += ["## Parameters", ""]
            lines += table(["name", "value"], origin.parameters.sorted { $0.key < $1.key }.map { [$0.key, $0.value] })
        }
        if let signature = candidate.signature {
            lines += ["## Inputs", ""]
            lines += table(
                ["name", "kind", "may be missing"],
                signature.inputs.map { field in
                    let kind = field.kind == .category ? "one of \(field.categories.count) categories" : field.kind.rawValue
                    return [field.name, kind, field.isNullable ? "yes" : "no"]
                })
        }
        lines += ["## History", ""]
        lines += table(
            ["when", "step", "who", "why"],
            transitions.filter { $0.version == version.number }.map { step in
                [
                    step.time.description, (step.from.map { "\($0.rawValue) → " } ?? "") + step.to.rawValue, step.actor,
                    step.reason,
                ]
            })
        return lines.joined(separator: "\n")
    }

    private static func table(_ head: [String], _ rows: [[String]]) -> [String] {
        func line(_ cells: [String]) -> String { "| " + cells.map(cell).joined(separator: " | ") + " |" }
        return [line(head), "|" + head.map { _ in "---|" }.joined()] + rows.map(line) + [""]
    }

    /// Text that stays in its cell and cannot become markup: names and reasons come from people.
    private static func cell(_ text: String) -> String {
        text.replacing("\\", with: "\\\\").replacing("|", with: "\\|").replacing("<", with: "&lt;")
            .replacing("\r\n", with: " ").replacing("\n", with: " ")
    }
}
