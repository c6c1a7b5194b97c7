import Definitions
import FeatureStore
import ModelRegistry
import PlatformCore
import RuntimePorts

// Versions without a feature service of this platform: what columns they read.
extension ModelDesk {
    /// The columns that a version reads by itself: those of its signature, or where it has none, those that its file names.
    ///
    /// Texts are categories, whose values the signature or the file has to list.
    /// - Throws: `refused` if neither names the columns, or a column is no number and no category.
    static func columns(of version: ModelVersion, _ model: ModelDescription) throws(PlatformError) -> ServiceVersion {
        let fields = version.candidate.signature?.inputs ?? []
        let isNamed = !fields.isEmpty && fields.allSatisfy { !$0.name.isEmpty && $0.kind != .tensor }
        let names = isNamed ? fields.map(\.name) : model.featureNames
        guard !names.isEmpty, Set(names).count == names.count else {
            throw PlatformError(
                .refused, version.subject,
                "neither its signature nor its file names the columns that it reads. Log it with a signature of a data frame. "
                    + trainingSetHint)
        }
        let isByName = Set(model.featureNames) == Set(names)
        let places = Dictionary(
            model.featureNames.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        var columns: [(name: String, values: [String]?)] = []
        for (position, name) in names.enumerated() {
            let field = isNamed ? fields[position] : nil
            let listed =
                field.map(\.categories).flatMap { $0.isEmpty ? nil : $0 }
                ?? model.categories[isByName ? places[name] ?? position : position]
            switch field?.kind {
            case .number, .boolean, nil: columns.append((name, field == nil ? listed : nil))
            case .category, .text:
                guard let listed, Set(listed).count == listed.count else {
                    throw PlatformError(
                        .refused, version.subject,
                        "'\(name.prefix(100))' is text, and neither its signature nor its file lists the values. "
                            + trainingSetHint)
                }
                columns.append((name, listed))
            case .time, .tensor, .other:
                throw PlatformError(
                    .refused, version.subject,
                    "'\(name.prefix(100))' is neither number nor text (\(field?.type ?? "of no known type")). \(trainingSetHint)"
                )
            }
        }
        // Columns are found by their names: those of the file say the order in which the model reads them.
        if isByName {
            columns.sort { (places[$0.name] ?? 0) < (places[$1.name] ?? 0) }
        }
        return ServiceVersion(
            service: FeatureServiceDefinition(of: columns, called: Name(static: "signature")),
            definitions: DefinitionSet())
    }
}
