import Definitions
import Foundation
public import PlatformCore
import Yams

/// What an `MLmodel` file says of a model's files: its flavours and its signature.
public struct MLmodelFile: Sendable, Hashable {
    /// Flavours, `xgboost`, `python_function`, with the version of their library where it is said.
    public let flavors: [String: String]
    /// The signature; `nil` if the file states none.
    public let signature: ModelSignature?

    /// Largest accepted file in bytes.
    public static let byteCountMax = 16 << 20

    /// The framework: the flavour that is not the general one.
    public var framework: String { flavors.keys.sorted().first { $0 != "python_function" } ?? "python_function" }

    /// Reads a file.
    /// - Throws: `PlatformError` (`invalidInput`) for what is no YAML mapping or has a signature that makes no sense.
    public init(_ bytes: [UInt8]) throws(PlatformError) {
        func fault(_ message: String) -> PlatformError { PlatformError(.invalidInput, "MLmodel", message) }
        guard bytes.count <= Self.byteCountMax else { throw fault("it has more than \(Self.byteCountMax) bytes") }
        guard YAMLAliases.count(in: bytes) <= YAMLAliases.countMax else {
            throw fault("it has more than \(YAMLAliases.countMax) YAML aliases (*name)")
        }
        let node: Node?
        do { node = try Yams.compose(yaml: String(decoding: bytes, as: UTF8.self)) } catch {
            throw fault("it is no YAML: \(String(describing: error).prefix(200))")
        }
        guard case .mapping(let members)? = node else { throw fault("it is no mapping") }
        var flavors: [String: String] = [:]
        if case .mapping(let named)? = members["flavors"] {
            for (name, flavor) in named {
                guard let name = name.string else { continue }
                let version = flavor.mapping?.first { $0.key.string?.hasSuffix("_version") == true }?.value.string
                flavors[name] = version ?? ""
            }
        }
        self.flavors = flavors
        guard case .mapping(let parts)? = members["signature"] else {
            signature = nil
            return
        }
        func fields(_ name: String) throws(PlatformError) -> [SignatureField] {
            guard let text = parts[name]?.string, !text.isEmpty, text != "null" else { return [] }
            guard let list = (try? JSONValue.parse(Array(text.utf8)))?.arrayValue else {
                throw fault("the signature's \(name) are no list")
            }
            var fields: [SignatureField] = []
            for (index, column) in list.enumerated() {
                fields.append(
                    Self.field(column, named: name == "inputs" ? "" : index == 0 ? "prediction" : "output_\(index)"))
            }
            return fields
        }
        signature = ModelSignature(inputs: try fields("inputs"), outputs: try fields("outputs"))
    }

    private static func field(_ column: JSONValue, named standard: String) -> SignatureField {
        let name = column["name"]?.stringValue ?? standard
        let isNullable = column["required"]?.boolValue == false
        if let tensor = column["tensor-spec"] {
            return SignatureField(
                name: name, kind: .tensor, isNullable: isNullable, type: tensor["dtype"]?.stringValue,
                shape: tensor["shape"]?.arrayValue?.map { Int($0.integerValue ?? -1) })
        }
        let type = column["type"]?.stringValue ?? "object"
        let kind: SignatureField.Kind =
            switch type {
            case "integer", "long", "float", "double": .number
            case "boolean": .boolean
            case "string", "binary": .text
            case "datetime": .time
            default: .other
            }
        return SignatureField(name: name, kind: kind, isNullable: isNullable, type: type)
    }
}
