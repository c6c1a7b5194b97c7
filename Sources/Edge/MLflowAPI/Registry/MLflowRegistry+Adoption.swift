import Definitions
import ExperimentTracking
import ModelRegistry
import PlatformCore

extension MLflowRegistry {
    /// Takes over what a data folder holds from the time when MLflow's models had tables of their own.
    ///
    /// Each version becomes one of ours with its tags, aliases, description and stage; the reason in its history says that
    /// no gate was asked. Numbers are kept where they are free; a version whose number the model has already gets the next
    /// one and the tag `bottega.mlflow_version`. Taken over models leave the old tables, so a crash continues where it was.
    /// - Returns: how many versions came over.
    @discardableResult
    public func adoptEarlierModels() async throws -> Int {
        var count = 0
        for old in try await registry.earlierModels() {
            let tags = old.tags
            if (try? await registry.model(named: old.name)) == nil {
                try await registry.createModel(
                    old.name, description: old.description, tags: tags, actor: "migration")
            }
            let id = try await registry.model(named: old.name).id
            var numbers: [Int: Int] = [:]
            for version in old.versions {
                let mark = ["bottega.mlflow_version": String(version.number)]
                let known = try await registry.searchVersions(
                    SearchFilter(
                        "name = '\(old.name.replacing("'", with: "''"))' AND tags.`bottega.mlflow_version` = '\(version.number)'"
                    ),
                    countMax: 1
                ).elements.first
                if let known {
                    numbers[version.number] = known.version.number
                    continue
                }
                let candidate = try await intake(
                    id,
                    VersionSource(
                        uri: version.source, artifactURI: version.artifactURI, loggedModel: version.modelID,
                        runLink: version.runLink), version.runID, version.description,
                    version.tags.merging(mark) { $1 })
                let new = try await registry.register(
                    id, candidate, actor: version.userName ?? "migration",
                    reason: "taken over from the earlier registry",
                    number: version.number)
                numbers[version.number] = new.number
                try await registry.adopt(new, stage: version.stage)
                count += 1
            }
            for (alias, number) in old.aliases {
                if let number = numbers[number] {
                    try await registry.setAlias(alias, of: id, to: number, actor: "migration")
                }
            }
            try await registry.forgetEarlierModel(old.name)
        }
        return count
    }
}
