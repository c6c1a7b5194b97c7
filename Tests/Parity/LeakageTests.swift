import FeatureStore
import PlatformCore
import StoragePorts
import Testing

/// Twenty planted leaks are found and their twenty honest twins are not accused.
struct LeakageTests {
    @Test(arguments: PlantedLeak.all)
    func plantedLeaksAreFoundAndHonestTwinsAreNot(leak: PlantedLeak) async throws {
        let world = try LeakageWorld(leak)
        let report = try await world.report(try CommandLineEngine(), ContentStore(base: try FolderObjectStore()))
        if leak.isPlanted {
            let expected: Set<LeakageFinding.Kind> =
                switch leak.kind {
                case .filledLaterNumber, .filledLaterCategory, .nullWhereLost, .codeOfTheLabel, .nearCopy,
                    .outcomeOfTheCase, .caseOnlyWhereLost:
                    [.implausiblePower]
                case .ownLabelLast, .ownLabelMean, .ownLabelCount: [.ownLabel]
                case .settledAt, .dueAt: [.futureMoment]
                case .lateFew, .lateSome, .lateMany, .lateMost: [.unknownAtTheTime]
                case .everyRowTwice, .someRowsTwice: [.repeatedRows]
                case .sharedCustomers, .movedCustomers: [.sharedEntities]
                }
            #expect(!expected.isDisjoint(with: Set(report.findings.map(\.kind))), "\(leak): \(report.findings)")
        } else {
            #expect(report.findings.isEmpty, "\(leak): \(report.findings)")
            #expect(report.isClean)
        }
    }
}
