import Glibc
import StoragePorts
import Synchronization

/// Makes sure that one process writes a topic.
///
/// Held from the first append until the log is let go.
final class TopicLock: Sendable {
    private let path: String
    private let subject: String
    private let held = Mutex<File?>(nil)

    init(path: String, subject: String) {
        self.path = path
        self.subject = subject
    }

    /// Takes the lock if this process does not have it.
    ///
    /// Tries for a quarter of a second: an old process that is on its way out, or a log that was let go a moment ago,
    /// is no reason to fail.
    /// - Throws: `locked`.
    func acquire() throws(StoreError) {
        try held.withLock { (held) throws(StoreError) in
            if held != nil { return }
            let file = try File(path, O_RDWR | O_CREAT, subject: subject)
            var tries = 0
            while flock(file.descriptor, LOCK_EX | LOCK_NB) != 0 {
                guard errno == EWOULDBLOCK || errno == EINTR else {
                    throw systemFailure(errno, subject, "locking \(path)")
                }
                tries += 1
                if tries > 25 {
                    let holder = String(decoding: (try? file.read(20, at: 0)) ?? [], as: UTF8.self)
                    let known = !holder.isEmpty && holder.utf8.allSatisfy { 48...57 ~= $0 }
                    throw StoreError(
                        .locked, subject,
                        "another process\(known ? " (\(holder))" : "") writes this topic; only one may")
                }
                usleep(10_000)
            }
            try file.truncate(to: 0)
            try file.write(Array(String(getpid()).utf8), at: 0)
            held = file
        }
    }
}
