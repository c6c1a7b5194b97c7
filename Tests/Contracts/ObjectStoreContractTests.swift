import FileSystemAdapter
import PlatformTesting
import PortContracts
import StoragePorts
import Testing

private let stores: [(name: String, contract: ObjectStoreContract)] = [
    ("folder", ObjectStoreContract { try FolderObjectStore(directory: $0 + "/made/on/the/way") }),
    ("memory", ObjectStoreContract { _ in try InMemoryObjectStore() }),
]

@Suite struct ObjectStoreContractTests {
    @Test(arguments: stores.map(\.name)) func givesBackWhatWasPut(_ name: String) async throws {
        try await contract(name).givesBackWhatWasPut()
    }
    @Test(arguments: stores.map(\.name)) func neverReplacesAnObject(_ name: String) async throws {
        try await contract(name).neverReplacesAnObject()
    }
    @Test(arguments: stores.map(\.name)) func letsOneOfManyWritersWin(_ name: String) async throws {
        try await contract(name).letsOneOfManyWritersWin()
    }
    @Test(arguments: stores.map(\.name)) func refusesKeysThatAreNone(_ name: String) async throws {
        try await contract(name).refusesKeysThatAreNone()
    }
    @Test(arguments: stores.map(\.name)) func saysWhatIsNotThere(_ name: String) async throws {
        try await contract(name).saysWhatIsNotThere()
    }
    @Test(arguments: stores.map(\.name)) func keepsToTheReadersLimit(_ name: String) async throws {
        try await contract(name).keepsToTheReadersLimit()
    }
    @Test(arguments: stores.map(\.name)) func listsByPrefixInByteOrder(_ name: String) async throws {
        try await contract(name).listsByPrefixInByteOrder()
    }
    @Test(arguments: stores.map(\.name)) func takesAndGivesFiles(_ name: String) async throws {
        try await contract(name).takesAndGivesFiles()
    }
    @Test func survivesReopening() async throws { try await contract("folder").survivesReopening() }

    private func contract(_ name: String) throws -> ObjectStoreContract {
        try #require(stores.first { $0.name == name }).contract
    }
}
