import Foundation
import StoragePorts
import Synchronization
import Testing

@testable import FileSystemAdapter

@Suite struct FolderJournalTests {
    private final class Folder: Sendable {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("journal-\(UUID().uuidString)").path
        deinit { try? FileManager.default.removeItem(atPath: path) }
    }
    private let folder = Folder()

    private func journal() throws -> FolderJournal {
        try FolderJournal(directory: folder.path, segmentByteCount: 32 << 10)
    }

    private func entries(_ journal: FolderJournal, next: UInt64 = 1) async throws -> [UInt64: [UInt8]] {
        let found = Mutex<[UInt64: [UInt8]]>([:])
        try await journal.recover(next: next) { number, entry in found.withLock { $0[number] = entry } }
        return found.withLock { $0 }
    }

    private func append(_ entry: [UInt8], to journal: FolderJournal) async throws -> UInt64 {
        try await withCheckedContinuation { continuation in
            journal.append(entry) { continuation.resume(returning: $0) }
        }.get()
    }

    private func entry(_ number: Int) -> [UInt8] {
        (0..<(number * 37 % 3000)).map { UInt8(truncatingIfNeeded: $0 &* number) }
    }

    @Test func whatIsDurableIsFoundAfterAStart() async throws {
        let first = try journal()
        #expect(try await entries(first).isEmpty)
        for number in 1...200 { #expect(try await append(entry(number), to: first) == UInt64(number)) }
        let second = try journal()
        let found = try await entries(second)
        #expect(found.count == 200)
        for number in 1...200 { #expect(found[UInt64(number)] == entry(number)) }
        #expect(try await append([1], to: second) == 201)
        #expect(try await entries(journal()).count == 201)
    }

    @Test func manyAppendersKeepTheirOrderAndNumbers() async throws {
        let journal = try journal()
        _ = try await entries(journal)
        let numbers = try await withThrowingTaskGroup(of: [UInt64].self) { group in
            for _ in 0..<16 {
                group.addTask {
                    var numbers: [UInt64] = []
                    for number in 1...20 { numbers.append(try await append(entry(number), to: journal)) }
                    return numbers
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(numbers.flatMap(\.self)) == Set(1...320))
        for list in numbers { #expect(list == list.sorted()) }
    }

    /// Numbers in the order in which they became known.
    private final class Known: Sendable {
        let numbers = Mutex<[UInt64]>([])

        func add(_ outcome: Result<UInt64, StoreError>) {
            if case .success(let number) = outcome { numbers.withLock { $0.append(number) } }
        }
    }

    private func appendSomehow(_ content: [UInt8], to journal: FolderJournal, _ known: Known) async {
        if journal.appendNow(content, durable: { known.add($0) }) { return }
        await withCheckedContinuation { continuation in
            journal.append(content) { outcome in
                known.add(outcome)
                continuation.resume()
            }
        }
    }

    @Test func callersThatWriteThemselvesAndTheThreadKeepOneOrder() async throws {
        let journal = try journal()
        let known = Known()
        _ = try await entries(journal)
        _ = try await append([0], to: journal)  // opens the file
        await withTaskGroup(of: Void.self) { group in
            for task in UInt8(0)..<6 {
                group.addTask {
                    for number in UInt8(0)..<60 { await appendSomehow([task, number], to: journal, known) }
                }
            }
        }
        // Known in the order of their numbers, none twice and none left out, whoever wrote them.
        #expect(known.numbers.withLock { $0 } == Array(2...361))
        let found = try await entries(self.journal())
        #expect(found.count == 361)
        #expect(Set(found.values).count == 361)
    }

    @Test func aCallerAloneWritesUnlessAFileIsDueOrTheEntryIsLarge() async throws {
        let journal = try journal()
        _ = try await entries(journal)
        #expect(!journal.appendNow([1]) { _ in })  // no file is open
        _ = try await append([1], to: journal)
        var count = 0
        for _ in 0..<2000 where count < 100 {
            if journal.appendNow([7], durable: { _ in }) {
                count += 1
            } else {
                try await Task.sleep(for: .milliseconds(2))  // the last write was slow
            }
        }
        #expect(count > 0)
        #expect(!journal.appendNow(Array(repeating: 1, count: 1 << 20)) { _ in })
        #expect(try await entries(self.journal()).count == count + 1)
    }

    @Test func forgottenFilesAreUsedAgainAndTheirOldEntriesAreNotSeen() async throws {
        let first = try journal()
        _ = try await entries(first)
        var last: UInt64 = 0
        for round in 0..<20 {
            for number in 1...40 { last = try await append(entry(number + round), to: first) }
            first.forget(upTo: last)
        }
        last = try await append(entry(21), to: first)
        await first.settle()  // another journal of the folder would find files going
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).count <= 4)
        let found = try await entries(journal(), next: last + 1)
        #expect(found.keys.allSatisfy { $0 <= last })
        for (number, content) in found {
            #expect(content == entry(Int((number - 1) % 40) + 1 + Int((number - 1) / 40)))
        }
        let second = try journal()
        _ = try await entries(second, next: last + 1)
        #expect(try await append([1], to: second) == last + 1)
    }

    @Test func startsInARowForgetAndKeepWhatTheyShould() async throws {
        var last: UInt64 = 0
        var contents: [UInt64: [UInt8]] = [:]
        for start in 0..<12 {
            let forgotten = last > 7 ? last - 7 : 0
            let journal = try journal()
            let found = try await entries(journal, next: forgotten + 1)
            for number in forgotten..<last { #expect(found[number + 1] == contents[number + 1]) }
            for number in 1...(20 + start) {
                last = try await append(entry(number), to: journal)
                contents[last] = entry(number)
                if number % 9 == 0 { journal.forget(upTo: last - 7) }
            }
            journal.forget(upTo: last - 7)
            last = try await append(entry(start), to: journal)  // behind the forgetting, which nobody waits for
            contents[last] = entry(start)
        }
    }

    @Test(arguments: UInt64(0)..<20)
    func aTornEndIsCutAndNothingBeforeIt(seed: UInt64) async throws {
        let first = try journal()
        _ = try await entries(first)
        for number in 1...30 { _ = try await append(entry(number % 5), to: first) }
        let name = try #require(try FileManager.default.contentsOfDirectory(atPath: folder.path).max())
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder.path + "/" + name)))
        let at = 4096 + Int(seed &* 2_654_435_761 % 2000)
        for index in at..<bytes.count { bytes[index] = UInt8(truncatingIfNeeded: index &* 31 &+ Int(seed)) }
        try Data(bytes).write(to: URL(fileURLWithPath: folder.path + "/" + name))
        let second = try journal()
        let found = try await entries(second)
        #expect(found.keys.sorted() == (0..<UInt64(found.count)).map { $0 + 1 })
        for (number, content) in found { #expect(content == entry(Int(number) % 5)) }
        let next = try await append([9], to: second)
        #expect(next == UInt64(found.count) + 1)
        #expect(try await entries(journal())[next] == [9])
    }

    @Test func damageBetweenEntriesIsAnErrorThatNamesThem() async throws {
        let first = try journal()
        _ = try await entries(first)
        for number in 1...60 { _ = try await append(entry(number), to: first) }
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        try #require(names.count > 1)
        let path = folder.path + "/" + names[0]
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        bytes[4096 + 40] ^= 1
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let damaged = try journal()
        do {
            _ = try await entries(damaged)
            Issue.record("damage was not found")
        } catch { #expect((error as? StoreError)?.code == .corrupted) }
    }
}
