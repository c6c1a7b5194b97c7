import Foundation
public import PlatformCore
import Synchronization

/// Room for one part in the file of its upload, written from its first byte to its last.
///
/// Once it is closed, which taking the part does as well as anybody who needs the file for themselves, nothing is written
/// through it any more.
public final class PartRoom: Sendable {
    private struct State {
        var descriptor: Int32
        var stream: FileStream
    }

    /// After so many bytes the disk begins with what is written.
    private static let windowByteCount = 4 << 20

    let upload: String
    let number: Int
    /// How many bytes the part has.
    public let byteCount: Int
    private let end: Int
    private let state: Mutex<State>

    init?(upload: String, number: Int, file: String, offset: Int, byteCount: Int) {
        let descriptor = open(file, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        (self.upload, self.number, self.byteCount, end) = (upload, number, byteCount, offset + byteCount)
        state = Mutex(
            State(
                descriptor: descriptor,
                stream: FileStream(into: descriptor, from: offset, windowByteCount: Self.windowByteCount)))
    }

    deinit { close() }

    /// Writes the part's next bytes.
    /// - Throws: `conflict` if the room was closed, `invalidInput` for more bytes than were said, `unavailable`.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(PlatformError) {
        try state.withLock { state throws(PlatformError) in
            guard state.descriptor >= 0 else {
                throw PlatformError(.conflict, "part \(number)", "it came again, or its upload has ended")
            }
            guard bytes.count <= end - state.stream.position else {
                throw PlatformError(
                    .invalidInput, "part \(number)", "it has more than the \(byteCount) bytes that it said")
            }
            do throws(FileCallFailure) { try state.stream.write(bytes) } catch {
                throw PlatformError(.unavailable, "artifact", "its file cannot be written: \(error)")
            }
            if state.stream.position == end { state.stream.begin() }
        }
    }

    /// Ends the writing.
    public func close() { _ = finish() }

    /// Ends the writing; gives whether the room was open and is full.
    func finish() -> Bool {
        state.withLock { state in
            guard state.descriptor >= 0 else { return false }
            Glibc.close(state.descriptor)
            state.descriptor = -1
            return state.stream.position == end
        }
    }
}
