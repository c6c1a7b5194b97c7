import CDispatch
import Foundation
import NIOCore
import PlatformCore

/// An open file that is sent over connections out of the kernel's cache (`sendfile`), so that its bytes never come into
/// this process; closed when nobody holds it.
final class OpenFile: Sendable {
    let byteCount: Int
    private let descriptor: Int32

    /// Bytes that are brought into memory and sent at once.
    private static let portionByteCount = 4 << 20
    /// `MADV_POPULATE_READ`, from Linux 5.14 on; an older one answers EINVAL.
    private static let populateRead: Int32 = 22

    /// Opens a file for reading.
    ///
    /// - Throws: `notFound` if there is none, `unavailable` where the system refuses.
    init(_ path: String) throws(PlatformError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { throw Self.missing }
            throw PlatformError(.unavailable, "file", "it cannot be opened: \(String(cString: strerror(errno)))")
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw Self.missing
        }
        (self.descriptor, byteCount) = (descriptor, Int(status.st_size))
    }

    deinit { close(descriptor) }

    private static var missing: PlatformError { PlatformError(.notFound, "file", "there is no such file any more") }

    /// Sends a range of the file as the body of the answer whose head was written last; returns when the connection took it.
    ///
    /// The disk is waited for here and not on the connection's event loop: the next portion is brought into memory while
    /// one is sent. A cancelled task closes the connection: its reader may have stopped for good.
    func send(_ range: Range<Int>, over channel: any Channel) async throws {
        // Futures hear no cancellation; that the connection is gone they hear.
        try await withTaskCancellationHandler {
            var underway: EventLoopFuture<Void>?
            for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.portionByteCount) {
                try Task.checkCancellation()
                let portion = start..<min(range.upperBound, start + Self.portionByteCount)
                load(portion)
                try await underway?.get()
                underway = give(portion, to: channel)
            }
            try await underway?.get()
        } onCancel: {
            channel.close(promise: nil)
        }
    }

    private func give(_ portion: Range<Int>, to channel: any Channel) -> EventLoopFuture<Void> {
        let sent = channel.eventLoop.makePromise(of: Void.self)
        channel.eventLoop.execute {
            // Only borrowed: this file stays open until the portion is sent, or the connection gone.
            let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: self.descriptor)
            sent.futureResult.whenComplete { _ in
                _ = try? handle.takeDescriptorOwnership()
                withExtendedLifetime(self) {}
            }
            let region = FileRegion(
                fileHandle: handle, readerIndex: portion.lowerBound, endIndex: portion.upperBound)
            do {
                let context = try channel.pipeline.syncOperations.context(handlerType: AnswerEndHandler.self)
                guard let handler = context.handler as? AnswerEndHandler else {
                    throw ChannelError.inappropriateOperationForState
                }
                try handler.write(region, context: context, promise: sent)
            } catch { sent.fail(error) }
        }
        return sent.futureResult
    }

    /// Waits until a range is in memory.
    private func load(_ range: Range<Int>) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let start = range.lowerBound / page * page
        let count = range.upperBound - start
        if let place = mmap(nil, count, PROT_READ, MAP_SHARED, descriptor, off_t(start)), place != MAP_FAILED {
            defer { munmap(place, count) }
            if madvise(place, count, Self.populateRead) == 0 { return }
        }
        // What is read once is in memory, whatever the kernel knows.
        withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 16) { scratch in
            var at = range.lowerBound
            while at < range.upperBound {
                let count = pread(
                    descriptor, scratch.baseAddress, min(scratch.count, range.upperBound - at), off_t(at))
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }  // sending says what is wrong
                at += count
            }
        }
    }
}
