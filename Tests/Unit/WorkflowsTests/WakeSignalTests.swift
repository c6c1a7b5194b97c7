import Testing

@testable import Workflows

struct WakeSignalTests {
    @Test func aRingBetweenLookingAndWaitingIsNotLost() async {
        let signal = WakeSignal()
        let seen = signal.rings
        signal.ring()
        await signal.wait(past: seen)
        #expect(signal.rings == seen + 1)
    }

    @Test func everyWaiterIsWoken() async {
        let signal = WakeSignal()
        let seen = signal.rings
        await withTaskGroup { group in
            for index in 0..<20 {
                group.addTask { await signal.wait(past: seen, atMost: index % 2 == 0 ? .seconds(600) : nil) }
            }
            group.addTask { signal.ring() }
        }
    }

    @Test func aLimitAndACancelledTaskEndTheWait() async {
        let signal = WakeSignal()
        await signal.wait(past: signal.rings, atMost: .milliseconds(1))
        for limit in [nil, Duration.seconds(600)] {
            let task = Task { await signal.wait(past: signal.rings, atMost: limit) }
            task.cancel()
            await task.value
        }
        let seen = signal.rings
        signal.ring()
        await signal.wait(past: seen)  // and the next ring is heard
    }
}
