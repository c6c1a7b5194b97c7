import Glibc

/// Texts as the library wants them, at places that do not change.
final class TextTable: @unchecked Sendable {  // immutable
    private let storage: UnsafeMutableBufferPointer<UnsafePointer<CChar>?>

    /// Copies texts; a zero character ends a text.
    init(_ texts: [String]) {
        storage = .allocate(capacity: texts.count)
        storage.initialize(repeating: nil)
        for (index, text) in texts.enumerated() { storage[index] = UnsafePointer(strdup(text)) }
    }

    deinit {
        for pointer in storage { free(UnsafeMutablePointer(mutating: pointer)) }
        storage.deallocate()
    }

    /// How many there are.
    var count: Int { storage.count }

    /// The array that C functions take.
    var pointers: UnsafePointer<UnsafePointer<CChar>?>? { UnsafePointer(storage.baseAddress) }

    /// One text.
    subscript(index: Int) -> UnsafePointer<CChar>? { storage[index] }
}
