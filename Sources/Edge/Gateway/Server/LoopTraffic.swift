import NIOCore
import Synchronization

/// What waits for the event loops, as far as it decides whether one of them may be held up for a moment.
///
/// Writing a block to the disk on the event loop is quicker than on another thread, whose waking up costs as much as the
/// write. It is right only while a single client logs and nobody else, a prediction above all, would wait behind it.
final class LoopTraffic: Sendable {
    /// So long after any other request the loops belong to everyone.
    private static let quiet = TimeAmount.milliseconds(100)

    private let waitingCount = Atomic<Int>(0)
    private let lastOther = Atomic<UInt64>(0)

    /// A request arrived whose answer must not wait behind a disk.
    func noteOther(at moment: NIODeadline = .now()) {
        lastOther.store(moment.uptimeNanoseconds, ordering: .relaxed)
    }

    /// A request arrived whose answer goes to the disk.
    func enter() { waitingCount.add(1, ordering: .relaxed) }

    /// It was answered.
    func leave() { waitingCount.subtract(1, ordering: .relaxed) }

    /// Whether the only request in hand is one of those that go to the disk, and has been for a while.
    var isLonely: Bool {
        guard waitingCount.load(ordering: .relaxed) == 1 else { return false }
        let last = NIODeadline.uptimeNanoseconds(lastOther.load(ordering: .relaxed))
        return NIODeadline.now() - last > Self.quiet
    }
}
