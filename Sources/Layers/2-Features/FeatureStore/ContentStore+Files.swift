import ContentHashing
import Foundation
import PlatformCore
import StoragePorts

extension ContentStore {
    /// Takes over a file that was written at a staging path; gives its hash and size.
    func adopt(stagedFileAt path: String) async throws -> (hash: ContentHash, byteCount: Int) {
        let file = try FileHandle(forReadingFrom: URL(filePath: path))
        defer { try? file.close() }
        var hasher = ContentHasher()
        var byteCount = 0
        while let chunk = try file.read(upToCount: 1 << 20), !chunk.isEmpty {
            hasher.update([UInt8](chunk))
            byteCount += chunk.count
        }
        let hash = hasher.finalize()
        do { try await base.adopt(stagedFileAt: path, at: Self.key(of: hash)) } catch {
            if error.code != .conflict { throw error }
        }
        return (hash, byteCount)
    }
}
