import FileSystemAdapter
import PlatformTesting
import PortContracts
import StoragePorts
import Testing

private let logs: [(name: String, contract: EventLogContract)] = [
    ("segments", EventLogContract { try SegmentEventLog(directory: $0 + "/log") }),
    (
        "small segments",
        EventLogContract {
            try SegmentEventLog(directory: $0, configuration: SegmentEventLogConfiguration(segmentByteCountMax: 4_096))
        }
    ),
    ("memory", EventLogContract { _ in InMemoryEventLog() }),
]

@Suite struct EventLogContractTests {
    @Test(arguments: logs.map(\.name)) func makesTopicsOnce(_ name: String) async throws {
        try await contract(name).makesTopicsOnce()
    }
    @Test(arguments: logs.map(\.name)) func numbersRecordsWithoutGaps(_ name: String) async throws {
        try await contract(name).numbersRecordsWithoutGaps()
    }
    @Test(arguments: logs.map(\.name)) func keepsToTheReadersLimits(_ name: String) async throws {
        try await contract(name).keepsToTheReadersLimits()
    }
    @Test(arguments: logs.map(\.name)) func refusesRecordsThatAreTooLarge(_ name: String) async throws {
        try await contract(name).refusesRecordsThatAreTooLarge()
    }
    @Test(arguments: logs.map(\.name)) func keepsTheRecordsOfACallTogether(_ name: String) async throws {
        try await contract(name).keepsTheRecordsOfACallTogether()
    }
    @Test(arguments: logs.map(\.name)) func readsInPortions(_ name: String) async throws {
        try await contract(name).readsInPortions()
    }
    @Test(arguments: logs.map(\.name)) func findsByTimeAndNeverTooLate(_ name: String) async throws {
        try await contract(name).findsByTimeAndNeverTooLate()
    }
    @Test(arguments: logs.map(\.name)) func findsByKey(_ name: String) async throws {
        try await contract(name).findsByKey()
    }
    @Test(arguments: logs.map(\.name)) func remembersPositions(_ name: String) async throws {
        try await contract(name).remembersPositions()
    }
    @Test(arguments: logs.map(\.name)) func dropsFromTheBeginningOnly(_ name: String) async throws {
        try await contract(name).dropsFromTheBeginningOnly()
    }
    @Test(arguments: logs.map(\.name)) func knowsItsConsumers(_ name: String) async throws {
        try await contract(name).knowsItsConsumers()
    }
    @Test(arguments: logs.map(\.name)) func wakesReadersWhenThereIsMore(_ name: String) async throws {
        try await contract(name).wakesReadersWhenThereIsMore()
    }
    @Test(arguments: ["segments", "small segments"]) func survivesReopening(_ name: String) async throws {
        try await contract(name).survivesReopening()
    }

    private func contract(_ name: String) throws -> EventLogContract {
        try #require(logs.first { $0.name == name }).contract
    }
}
