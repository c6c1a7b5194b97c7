import CEpoll
import ModelServing
import NIOCore

/// A connection of a lane; used by its thread alone.
final class ExpressConnection {
    let descriptor: Int32
    var caller = AdmittedCaller()

    /// What has arrived and is not taken yet: a begun request, or those behind one that waits.
    var arrived: [UInt8] = []
    /// How many bytes make the begun request whole, if its head says so already.
    var wantedByteCount = 0
    /// When it is ended if nothing comes: a begun request that takes too long, or a caller that does not hear the end.
    var endsAt: NIODeadline?
    /// What the caller has not taken of the answers so far.
    var out: ArraySlice<UInt8> = []
    /// An answer that waits for the prediction log, and which wait that is.
    private(set) var held: (answer: Predictor.Answer, keepsAlive: Bool, isWritten: Bool)?
    /// Which wait that is, 0 for none; looked at for each request, which need not copy the answer.
    private(set) var wait: UInt64 = 0
    /// Whether it ends with the answers that are on their way.
    var isClosing = false
    /// Bytes that came after the last answer and were thrown away; `nil` before that.
    ///
    /// A connection that is closed with bytes unread takes back what the caller has not read yet.
    var drainedByteCount: Int?
    /// What the lane listens for on it.
    var interest = bottega_readable

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// Whether an answer waits.
    var isHeld: Bool { wait != 0 }
    /// Whether the next bytes may be read and taken.
    var isReading: Bool { !isHeld && out.isEmpty && !isClosing }

    /// Keeps an answer back.
    func hold(_ answer: Predictor.Answer, keepsAlive: Bool, isWritten: Bool, wait: UInt64) {
        held = (answer, keepsAlive, isWritten)
        self.wait = wait
    }

    /// No answer waits any more.
    func letGo() {
        held = nil
        wait = 0
    }
}
