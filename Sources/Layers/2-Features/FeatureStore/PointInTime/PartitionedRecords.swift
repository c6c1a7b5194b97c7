import StoragePorts
import Synchronization

/// Memory that record blocks may hold before they go to disk.
final class BlockBudget: Sendable {
    private let used = Atomic<Int>(0)
    private let byteCountMax: Int
    init(byteCountMax: Int) { self.byteCountMax = byteCountMax }
    /// Takes `count` bytes if they fit.
    func take(_ count: Int) -> Bool {
        if used.add(count, ordering: .relaxed).newValue <= byteCountMax { return true }
        used.subtract(count, ordering: .relaxed)
        return false
    }
    func give(_ count: Int) { used.subtract(count, ordering: .relaxed) }
}

/// Records of equal width, by partition, written by several threads and read back a partition at a time.
///
/// Blocks stay in memory while the budget lasts and go to the spill file after that.
///
/// `@unchecked`: `blocks` is only touched under `lock`; a block's memory belongs to one writer until it is handed over, and to
/// one reader after that.
final class PartitionedRecords: @unchecked Sendable {
    private enum Place {
        case memory(UnsafeMutablePointer<Int64>)
        case file(Int)
    }
    private struct Block {
        let place: Place
        let count: Int
    }

    let width: Int
    let partitionCount: Int
    /// Records of a block.
    private let blockSize: Int
    private let budget: BlockBudget
    private let spill: SpillFile
    private let lock = Mutex(())
    private var blocks: [[Block]]
    private var counts: [Int]

    init(width: Int, partitionCount: Int, budget: BlockBudget, spill: SpillFile, blockByteCount: Int = 32 << 10) {
        self.width = width
        self.partitionCount = partitionCount
        self.budget = budget
        self.spill = spill
        blockSize = max(16, blockByteCount / (width * 8))
        blocks = Array(repeating: [], count: partitionCount)
        counts = Array(repeating: 0, count: partitionCount)
    }

    deinit {
        for list in blocks {
            for block in list { if case .memory(let memory) = block.place { memory.deallocate() } }
        }
    }

    private var blockByteCount: Int { blockSize * width * 8 }

    /// Records of a partition; to be asked when all writers have finished.
    func count(_ partition: Int) -> Int { lock.withLock { _ in counts[partition] } }

    /// One thread's way in.
    final class Writer {
        private let records: PartitionedRecords
        private var open: [UnsafeMutablePointer<Int64>?]
        private var counts: [Int]

        init(_ records: PartitionedRecords) {
            self.records = records
            open = Array(repeating: nil, count: records.partitionCount)
            counts = Array(repeating: 0, count: records.partitionCount)
        }

        deinit { for memory in open { memory?.deallocate() } }

        /// Room for one more record, zeroes not promised.
        @inline(__always)
        func next(_ partition: Int) throws(StoreError) -> UnsafeMutablePointer<Int64> {
            if counts[partition] == records.blockSize { try hand(partition) }
            let memory: UnsafeMutablePointer<Int64>
            if let known = open[partition] {
                memory = known
            } else {
                memory = .allocate(capacity: records.blockSize * records.width)
                open[partition] = memory
            }
            defer { counts[partition] += 1 }
            return memory + counts[partition] * records.width
        }

        private func hand(_ partition: Int) throws(StoreError) {
            guard let memory = open[partition], counts[partition] > 0 else { return }
            let count = counts[partition]
            counts[partition] = 0
            if records.budget.take(records.blockByteCount) {
                open[partition] = nil
                records.add(Block(place: .memory(memory), count: count), to: partition)
            } else {
                let bytes = UnsafeRawBufferPointer(start: memory, count: count * records.width * 8)
                records.add(Block(place: .file(try records.spill.append(bytes)), count: count), to: partition)
            }
        }

        /// Hands over what is left.
        func finish() throws(StoreError) { for partition in open.indices { try hand(partition) } }
    }

    private func add(_ block: Block, to partition: Int) {
        lock.withLock { _ in
            blocks[partition].append(block)
            counts[partition] += block.count
        }
    }

    /// Takes a partition out: its records in one piece, to be deallocated by the caller.
    func take(_ partition: Int) throws(StoreError) -> (memory: UnsafeMutablePointer<Int64>, count: Int) {
        let list = lock.withLock { _ in
            defer { blocks[partition] = [] }
            return blocks[partition]
        }
        let total = list.reduce(0) { $0 + $1.count }
        let memory = UnsafeMutablePointer<Int64>.allocate(capacity: max(1, total * width))
        var done = 0
        var failure: StoreError?
        for block in list {
            let target = memory + done * width
            switch block.place {
            case .memory(let source):
                target.update(from: source, count: block.count * width)
                source.deallocate()
                budget.give(blockByteCount)
            case .file(let offset):
                let buffer = UnsafeMutableRawBufferPointer(start: target, count: block.count * width * 8)
                if failure == nil {
                    do throws(StoreError) { try spill.read(at: offset, into: buffer) } catch { failure = error }
                }
            }
            done += block.count
        }
        if let failure {
            memory.deallocate()
            throw failure
        }
        return (memory, total)
    }
}
