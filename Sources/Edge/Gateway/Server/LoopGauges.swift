import ModelServing
import NIOCore
import Synchronization

/// Measures how long requests wait for each event loop, and what share of them is to be refused for it.
///
/// A task that is due every few milliseconds is as late as a request that arrived with it: the loop takes everything
/// that is there in one round.
final class LoopGauges: Sendable {
    /// Time between two samples.
    static let period = TimeAmount.milliseconds(10)

    /// The gauge of one event loop.
    final class Gauge: Sendable {
        private let current = Atomic<Int>(0)
        /// Pressure in thousandths; see `Admission`.
        var pressure: Int { current.load(ordering: .relaxed) }
        fileprivate func set(_ pressure: Int) { current.store(pressure, ordering: .relaxed) }
    }
    private let gauges = Mutex<[ObjectIdentifier: Gauge]>([:])
    private let admission: Admission
    /// Delay that is accepted; 0 refuses nothing.
    let targetNanoseconds: UInt64

    /// - Parameter targetNanoseconds: delay that is accepted; 0 refuses nothing.
    init(admission: Admission, targetNanoseconds: UInt64) {
        self.admission = admission
        self.targetNanoseconds = targetNanoseconds
    }

    /// The gauge of a loop; the first call begins to measure it.
    func gauge(of loop: any EventLoop) -> Gauge {
        let (gauge, isNew) = gauges.withLock { gauges in
            if let known = gauges[ObjectIdentifier(loop)] { return (known, false) }
            let gauge = Gauge()
            gauges[ObjectIdentifier(loop)] = gauge
            return (gauge, true)
        }
        if isNew, targetNanoseconds > 0 { measure(loop, gauge) }
        return gauge
    }

    /// A gauge of a thread that measures itself and tells by `set`.
    func add() -> Gauge {
        let gauge = Gauge()
        gauges.withLock { $0[ObjectIdentifier(gauge)] = gauge }
        return gauge
    }

    /// Hears of a change.
    func set(_ gauge: Gauge, _ pressure: Int) {
        guard pressure != gauge.pressure else { return }
        gauge.set(pressure)
        tellWorst()
    }

    private func measure(_ loop: any EventLoop, _ gauge: Gauge) {
        let state = Mutex(LoopPressure(targetNanoseconds: targetNanoseconds))
        let due = Mutex(NIODeadline.now() + Self.period)
        loop.scheduleRepeatedTask(initialDelay: Self.period, delay: Self.period) { _ in
            let now = NIODeadline.now()
            let late = due.withLock { due in
                defer { due = now + Self.period }
                return now > due ? (now - due).nanoseconds : 0
            }
            let pressure = state.withLock { state in
                state.observe(delay: UInt64(late))
                return state.pressure
            }
            self.set(gauge, pressure)
        }
    }

    private func tellWorst() {
        admission.setPressure(gauges.withLock { $0.values.map(\.pressure).max() ?? 0 })
    }
}
