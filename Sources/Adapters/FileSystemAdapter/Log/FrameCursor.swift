import StoragePorts

/// Bytes of a segment that were read when it was found to have grown, for the reader that wants just these.
struct FollowedBytes: Sendable {
    let baseOffset: UInt64
    /// The first record in them, and where it lies.
    let offset: UInt64
    let position: Int
    var bytes: [UInt8]

    var end: Int { position + bytes.count }
}

/// Walks over the frames of a segment file through a window of its bytes.
struct FrameCursor {
    /// What comes next in the file.
    enum Step {
        /// A sound frame with the expected offset.
        case frame(LogFrame)
        /// Nothing more.
        case end
        /// Bytes that are no such frame, or not yet all of it.
        case damage
    }

    private static let windowByteCount = 256 << 10

    private let file: File
    /// Where the walk ends, whatever the file holds behind it.
    private let end: Int
    /// Where the next frame is expected.
    private(set) var position: Int
    /// The offset that the next frame must have.
    private(set) var expectedOffset: UInt64
    private var window: [UInt8] = []
    private var windowStart = 0
    /// Whether the window's frames were found to be sound before.
    private var isChecked = false

    init(file: File, position: Int, end: Int, expectedOffset: UInt64) {
        self.file = file
        self.position = position
        self.end = end
        self.expectedOffset = expectedOffset
        windowStart = position
    }

    /// Walks over bytes that were read before, and reads on behind them.
    ///
    /// - Parameter isChecked: whether the frames in them were found to be sound: they are not checked again.
    init(file: File, position: Int, end: Int, expectedOffset: UInt64, bytes: FollowedBytes, isChecked: Bool) {
        self.init(file: file, position: position, end: end, expectedOffset: expectedOffset)
        (window, windowStart, self.isChecked) = (bytes.bytes, bytes.position, isChecked)
    }

    /// Makes sure that the window holds `count` bytes from `start`, or all up to the end.
    private mutating func load(_ count: Int, at start: Int) throws(StoreError) {
        let wanted = min(count, end - start)
        if start >= windowStart, start + wanted <= windowStart + window.count { return }
        window = try file.read(min(max(wanted, Self.windowByteCount), max(0, end - start)), at: start)
        windowStart = start
        isChecked = false
    }

    /// The sound frame at `start`, whatever its offset.
    private mutating func frame(at start: Int) throws(StoreError) -> LogFrame? {
        guard end - start >= LogFrame.headerByteCount else { return nil }
        try load(LogFrame.headerByteCount, at: start)
        guard let frame = window.withUnsafeBytes({ LogFrame(header: rest($0, start), position: start) }),
            frame.byteCount <= end - start
        else { return nil }
        try load(frame.byteCount, at: start)
        if isChecked { return frame }
        return window.withUnsafeBytes { frame.isSound(in: rest($0, start)) } ? frame : nil
    }

    private func rest(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[min(max(0, start - windowStart), bytes.count)...])
    }

    /// The next frame; moves past it.
    mutating func next() throws(StoreError) -> Step {
        if position >= end { return .end }
        guard let frame = try frame(at: position), frame.offset == expectedOffset else { return .damage }
        resume(behind: frame)
        return .frame(frame)
    }

    /// The record of the frame that `next` gave last.
    func record(of frame: LogFrame) -> StoredRecord {
        window.withUnsafeBytes { frame.record(in: rest($0, frame.position)) }
    }

    /// The first sound frame behind the damage at `position` that is wanted by `accepts`.
    ///
    /// Does not move.
    ///
    /// - Complexity: linear in the bytes behind the damage; what looks like a frame must also have an offset that fits.
    mutating func frameBehindDamage(where accepts: (LogFrame) -> Bool = { _ in true }) throws(StoreError) -> LogFrame? {
        var start = position
        while end - start >= LogFrame.headerByteCount {
            try load(LogFrame.headerByteCount, at: start)
            let roomForOffsets = UInt64((start - position) / LogFrame.headerByteCount + 1)
            let plausible = window.withUnsafeBytes { LogFrame(header: rest($0, start), position: start) }
            if let plausible, plausible.offset >= expectedOffset, plausible.offset - expectedOffset <= roomForOffsets,
                let frame = try frame(at: start)
            {
                if accepts(frame) { return frame }
                start = frame.end
            } else {
                start += 1
            }
        }
        return nil
    }

    /// Goes on at `frame`.
    mutating func resume(at frame: LogFrame) {
        position = frame.position
        expectedOffset = frame.offset
    }

    private mutating func resume(behind frame: LogFrame) {
        position = frame.end
        expectedOffset = frame.offset + 1
    }
}
