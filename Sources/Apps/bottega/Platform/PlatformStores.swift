import FileSystemAdapter
import Foundation
import LMDBAdapter
import Logging
import PlatformCore
import SQLiteAdapter

/// The stores of one data directory.
///
/// The lock says that one process owns it.
struct PlatformStores {
    let lock: DirectoryLock
    let objects: FolderObjectStore
    let log: SegmentEventLog
    let online: LMDBOnlineStore
    let metadata: SQLiteMetadataStore
    let metricJournal: FolderJournal

    init(_ settings: Settings, logger: Logger) throws {
        let directory = settings.dataDirectory
        lock = try DirectoryLock(directory: directory)
        try DirectoryCheck.refuseLostDatabase(in: directory)
        // Files of the moment of a process that was killed: nobody else writes here while we hold the lock.
        try? FileManager.default.removeItem(atPath: "\(directory)/spool")
        objects = try FolderObjectStore(directory: "\(directory)/objects")
        log = try SegmentEventLog(
            directory: "\(directory)/log",
            configuration: SegmentEventLogConfiguration(
                synchronizes: settings.waitsForDisk, segmentByteCountMax: settings.segmentByteCount,
                onTornTail: { logger.warning("a torn end of the log was cut", metadata: ["tail": "\($0)"]) },
                onLostRecords: { logger.error("records of the log are gone", metadata: ["lost": "\($0)"]) }))
        online = try LMDBOnlineStore(
            directory: "\(directory)/online",
            configuration: LMDBConfiguration(mapByteCountMax: settings.onlineMapByteCount))
        metadata = try SQLiteMetadataStore(path: "\(directory)/metadata.sqlite")
        metricJournal = try FolderJournal(
            directory: "\(directory)/metrics", synchronizes: settings.metricsWaitForDisk)
    }
}
