/// A text that no log, description or dump shows.
///
/// What holds one may be printed: reflection finds no text in it. Only `value` gives it away.
public struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The text itself.
    public let value: String

    /// Hides a text.
    public init(_ value: String) { self.value = value }

    /// Not the text.
    public var description: String { "<secret>" }
    /// Not the text.
    public var debugDescription: String { "<secret>" }
    /// Without children.
    public var customMirror: Mirror { Mirror(self, children: [(label: String?, value: Any)]()) }
}
