import PortContracts
import SQLiteAdapter
import Testing

@Suite struct SQLiteMetadataStoreContractTests {
    private let contract = MetadataStoreContract { folder in try SQLiteMetadataStore(path: folder + "/metadata.sqlite")
    }

    @Test func givesBackWhatWasWritten() async throws { try await contract.givesBackWhatWasWritten() }
    @Test func migratesOnce() async throws { try await contract.migratesOnce() }
    @Test func migratesWhollyOrNotAtAll() async throws { try await contract.migratesWhollyOrNotAtAll() }
    @Test func takesBackWhatWasAbandoned() async throws { try await contract.takesBackWhatWasAbandoned() }
    @Test func seesItsOwnWrites() async throws { try await contract.seesItsOwnWrites() }
    @Test func refusesTakenAndMissingKeys() async throws { try await contract.refusesTakenAndMissingKeys() }
    @Test func refusesWrongSQL() async throws { try await contract.refusesWrongSQL() }
    @Test func takesParametersAsValues() async throws { try await contract.takesParametersAsValues() }
    @Test func updatesOnConflict() async throws { try await contract.updatesOnConflict() }
    @Test func losesNoUpdate() async throws { try await contract.losesNoUpdate() }
    @Test func readsOneState() async throws { try await contract.readsOneState() }
    @Test func survivesReopening() async throws { try await contract.survivesReopening() }
}
