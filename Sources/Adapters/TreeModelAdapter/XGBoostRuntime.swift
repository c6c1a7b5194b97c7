import PlatformCore
public import RuntimePorts

/// Limits for model files from outside.
public struct ModelLimits: Sendable, Hashable {
    /// Longest accepted file in bytes.
    public var byteCountMax: Int
    /// Most features a model may have; a row takes `12 · features` bytes while it is scored.
    public var featureCountMax: Int
    /// Most bytes that the sets of all categorical splits may take together.
    public var categorySetByteCountMax: Int
    /// Makes limits.
    public init(
        byteCountMax: Int = 1 << 30, featureCountMax: Int = 1 << 20, categorySetByteCountMax: Int = 256 << 20
    ) {
        self.byteCountMax = byteCountMax
        self.featureCountMax = featureCountMax
        self.categorySetByteCountMax = categorySetByteCountMax
    }
}

/// Loads XGBoost models (JSON and UBJSON, as XGBoost 1.0 to 3.2 write them) and scores them bit for bit like
/// `Booster.predict` of xgboost 3.2.0.
///
/// Boosters `gbtree` and `dart`; numeric and categorical splits; missing values (NaN). Refused by name: `gblinear`,
/// leaves that hold vectors (`multi_output_tree`), objectives whose arithmetic is not known here.
///
/// - Output: what `Booster.predict` gives. `multi:softprob` has one probability for each class; `multi:softmax` has one
///   output, the number of the class; `binary:logitraw` and `rank:*` give the margin.
/// - Early stopping: scikit-learn's wrapper predicts with the trees up to `best_iteration`, a `Booster` with all; the file
///   says which of them saved it.
/// - Categories: a model trained on a data frame carries its categories in `gradient_booster.model.cats` (`enc`: for each
///   feature the values in the order of their codes, strings as offsets and bytes or plain numbers; `feature_segments`:
///   where each feature's values start; `sorted_idx`: the order that sorts them). XGBoost uses it to translate a data
///   frame whose codes are in another order. So does `reading(categories:)`, by the same names; one that training did not
///   know, which XGBoost refuses, is missing. A row that nobody gave names to holds the codes of the training data.
public struct XGBoostRuntime: ModelRuntime {
    /// Which trees of a model that was stopped early take part.
    public enum TreeRange: Sendable, Hashable {
        /// As whoever saved the file predicts: up to the best iteration if scikit-learn's wrapper did, else all trees.
        case asSaved
        /// All trees.
        case all
        /// The trees up to and with attribute `best_iteration`; all of them if the model has none.
        case upToBestIteration
    }

    private let limits: ModelLimits
    private let range: TreeRange

    /// Makes a runtime.
    public init(limits: ModelLimits = ModelLimits(), treeRange: TreeRange = .asSaved) {
        self.limits = limits
        range = treeRange
    }

    /// `xgboost-json` and `xgboost-ubj`.
    public var formats: [String] { ["xgboost-json", "xgboost-ubj"] }

    /// Whether the first 4,096 bytes are an object with a member that XGBoost models start with.
    public func recognizes(_ bytes: [UInt8], fileName: String) -> Bool {
        guard Self.firstByte(of: bytes) == 0x7B else { return false }
        let head = bytes.prefix(4096)
        return Self.holds(head, "learner")
    }

    /// Loads a model; the content decides between JSON and UBJSON, not the name.
    public func load(_ bytes: [UInt8], fileName: String) throws(ModelError) -> any LoadedModel {
        do {
            return try load(bytes)
        } catch {
            let name = printable(fileName)
            throw ModelError(error.code, name.isEmpty ? error.message : "\(name): \(error.message)")
        }
    }

    private static func firstByte(of bytes: [UInt8]) -> UInt8? {
        bytes.first { $0 != 32 && !(9...13).contains($0) && $0 != 0x4E }
    }

    private static func holds(_ bytes: ArraySlice<UInt8>, _ word: String) -> Bool {
        let word = Array(word.utf8)
        guard bytes.count >= word.count else { return false }
        return bytes.indices.dropLast(word.count - 1).contains { bytes[$0..<($0 + word.count)].elementsEqual(word) }
    }

    /// Whether this is JSON: after the brace comes a quote or a brace; in UBJSON a length or a type.
    private static func isJSON(_ bytes: [UInt8]) -> Bool {
        guard let brace = bytes.firstIndex(of: 0x7B) else { return false }
        let next = bytes[(brace + 1)...].first { $0 != 32 && !(9...13).contains($0) }
        return next == 0x22 || next == 0x7D || next == nil
    }

    private func load(_ bytes: [UInt8]) throws(ModelError) -> any LoadedModel {
        guard bytes.count <= limits.byteCountMax else {
            throw ModelError(
                .tooLarge, "the model is \(bytes.count) bytes long, \(limits.byteCountMax) are accepted")
        }
        guard !bytes.isEmpty else { throw ModelError(.malformedModel, "the file is empty") }
        guard Self.firstByte(of: bytes) == 0x7B else {
            throw ModelError(
                .malformedModel, "the file starts with byte \(bytes[0]), not '{': not an XGBoost JSON or UBJSON model")
        }
        let isJSON = Self.isJSON(bytes)
        let file = try bytes.withUnsafeBufferPointer { (buffer) throws(ModelError) -> XGBoostFile in
            if isJSON {
                var cursor = JSONCursor(buffer)
                return try XGBoostFile(&cursor)
            }
            var cursor = UBJSONCursor(buffer)
            return try XGBoostFile(&cursor)
        }
        return try XGBoostCompiler(limits: limits, range: range)
            .compile(file, format: isJSON ? "xgboost-json" : "xgboost-ubj")
    }
}
