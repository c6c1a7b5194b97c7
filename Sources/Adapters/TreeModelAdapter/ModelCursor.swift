import RuntimePorts

/// Reads a model file front to back, straight into typed arrays: what JSON and UBJSON have in common.
///
/// Every call checks the bytes that are left before it allocates, and throws `malformedModel` with the place.
protocol ModelCursor {
    /// Members of the object that starts here. `body` must read exactly one value.
    mutating func eachMember(_ body: (inout Self, String) throws(ModelError) -> Void) throws(ModelError)
    /// Elements of the array that starts here. `body` must read exactly one value.
    mutating func eachElement(_ body: (inout Self) throws(ModelError) -> Void) throws(ModelError)
    /// An array of numbers.
    mutating func floats() throws(ModelError) -> [Float]
    /// An array of integers that fit in 32 bits, or of truth values.
    mutating func integers() throws(ModelError) -> [Int32]
    /// Text; a number gives its decimal text.
    mutating func text() throws(ModelError) -> String
    /// Passes over one value of any kind.
    mutating func skip() throws(ModelError)
    /// Checks that nothing but blanks follows.
    mutating func finish() throws(ModelError)
}

/// Where in a model file the cursor stands, for error messages: `learner.gradient_booster.model.trees[3]`.
struct ModelPath {
    private enum Part {
        case member(String)
        case element(Int)
    }
    private var parts: [Part] = []
    /// Number of open objects and arrays.
    var depth: Int { parts.count }

    mutating func enter(member name: String) { parts.append(.member(name)) }
    mutating func enter(element index: Int) { parts.append(.element(index)) }
    mutating func leave() { parts.removeLast() }

    var text: String {
        var text = ""
        for part in parts {
            switch part {
            case .member(let name): text += (text.isEmpty ? "" : ".") + printable(name)
            case .element(let index): text += "[\(index)]"
            }
        }
        return text.isEmpty ? "the model" : text
    }
}

/// Text from a file made safe for one line of a message: at most 64 characters, no control characters.
func printable(_ text: String) -> String {
    String(
        String.UnicodeScalarView(
            text.unicodeScalars.prefix(64).map { $0.properties.isWhitespace || $0.value < 32 ? " " : $0 }))
}

/// Nesting past which a file is refused; XGBoost's own files are 7 deep.
let modelDepthMax = 32
