import Foundation
import PlatformCore
import StoragePorts

/// The accepted rows of a load that is being checked, as JSON lines; removed with its last reference.
final class CheckSpool: Sendable {
    let path: String
    private let handle: FileHandle

    init(path: String) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let handle = FileHandle(forWritingAtPath: path)
        else { throw StoreError(.full, "spool", "a file for the checks cannot be written") }
        self.path = path
        self.handle = handle
    }

    deinit {
        try? handle.close()
        try? FileManager.default.removeItem(atPath: path)
    }

    func write(_ rows: [IntakeRequest.Row]) throws {
        var bytes: [UInt8] = []
        for row in rows {
            bytes += row.content
            bytes.append(10)
        }
        do { try handle.write(contentsOf: bytes) } catch {
            throw StoreError(.full, "spool", "a file for the checks cannot be written", cause: error)
        }
    }
}
