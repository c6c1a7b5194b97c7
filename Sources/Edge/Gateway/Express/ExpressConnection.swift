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
    /// Since when a begun request waits for its rest.
    var begunAt: NIODeadline?
    /// What the caller has not taken of the answers so far.
    var out: ArraySlice<UInt8> = []
    /// An answer that waits for the prediction log, and which wait that is.
    private(set) var held: (answer: Predictor.Answer, keepsAlive: Bool, isWritten: Bool, wait: UInt64)?
    /// Whether an answer waits; looked at for each request, which need not copy the answer.
    private(set) var isHeld = false
    /// Whether it ends with the answers that are on their way.
    var isClosing = false
    /// What the lane listens for on it.
    var interest = ExpressLane.readable

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// Whether the next bytes may be read and taken.
    var isReading: Bool { !isHeld && out.isEmpty && !isClosing }

    /// Keeps an answer back.
    func hold(_ answer: Predictor.Answer, keepsAlive: Bool, isWritten: Bool, wait: UInt64) {
        held = (answer, keepsAlive, isWritten, wait)
        isHeld = true
    }

    /// No answer waits any more.
    func letGo() {
        held = nil
        isHeld = false
    }
}
