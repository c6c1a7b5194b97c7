import LMDBAdapter
import PlatformTesting
import PortContracts
import StoragePorts
import Testing

private let stores: [(name: String, contract: OnlineStoreContract)] = [
    ("LMDB", OnlineStoreContract { try LMDBOnlineStore(directory: $0 + "/online") }),
    ("memory", OnlineStoreContract { _ in InMemoryOnlineStore() }),
]

@Suite struct OnlineStoreContractTests {
    @Test(arguments: stores.map(\.name)) func readsInTheOrderOfTheKeys(_ name: String) async throws {
        try await contract(name).readsInTheOrderOfTheKeys()
    }
    @Test(arguments: stores.map(\.name)) func keepsTheRowWithTheHigherSequence(_ name: String) async throws {
        try await contract(name).keepsTheRowWithTheHigherSequence()
    }
    @Test(arguments: stores.map(\.name)) func keepsTheHigherSequenceInsideOneWrite(_ name: String) async throws {
        try await contract(name).keepsTheHigherSequenceInsideOneWrite()
    }
    @Test(arguments: stores.map(\.name)) func tellsAllKeysApart(_ name: String) async throws {
        try await contract(name).tellsAllKeysApart()
    }
    @Test(arguments: stores.map(\.name)) func stopsWhenTold(_ name: String) async throws {
        try await contract(name).stopsWhenTold()
    }
    @Test(arguments: stores.map(\.name)) func remembersCheckpoints(_ name: String) async throws {
        try await contract(name).remembersCheckpoints()
    }
    @Test(arguments: stores.map(\.name)) func dropsOneViewAlone(_ name: String) async throws {
        try await contract(name).dropsOneViewAlone()
    }
    @Test(arguments: stores.map(\.name)) func removesRowsInAWrite(_ name: String) async throws {
        try await contract(name).removesRowsInAWrite()
    }
    @Test(arguments: stores.map(\.name)) func showsAWriteWholeOrNotAtAll(_ name: String) async throws {
        try await contract(name).showsAWriteWholeOrNotAtAll()
    }
    @Test func survivesReopening() async throws { try await contract("LMDB").survivesReopening() }

    private func contract(_ name: String) throws -> OnlineStoreContract {
        try #require(stores.first { $0.name == name }).contract
    }
}
