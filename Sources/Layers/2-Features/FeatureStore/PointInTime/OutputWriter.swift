import Aggregation
import ColumnFiles
import PlatformCore
import StoragePorts
import Synchronization

/// Puts answers and the questions' own columns together and writes them, row group by row group.
struct OutputWriter: Sendable {
    let groups: QuestionGroups
    let answers: [ViewAnswers]
    let columns: [PointInTimeJoin.Column]
    let settings: PointInTimeJoin.Settings
    let workers: Workers

    private func described(in file: QuestionFile) throws(ColumnFileError) -> [FileColumn] {
        var out: [FileColumn] = []
        for column in columns {
            switch column {
            case .question(let name):
                let found = file.reader.columns[try file.position(name)]
                guard let kind = found.kind else {
                    throw ColumnFileError(.unsupported, "column '\(name)' of '\(file.path)' is \(found.typeName)")
                }
                out.append(FileColumn(name: name, kind: kind))
            case .feature(let view, let feature):
                let described = answers[view].view.plan.features[feature]
                guard let kind = Self.kind(described.type) else {
                    throw ColumnFileError(.unsupported, "feature '\(described.name)' is \(described.type.rawValue)")
                }
                out.append(FileColumn(name: answers[view].view.outputs[feature], kind: kind))
            }
        }
        return out
    }

    /// How a feature's values are stored, moments as integers of milliseconds; `nil` for what is not one value in a cell.
    static func kind(_ type: ColumnType) -> ColumnKind? {
        switch type {
        case .float64: .real
        case .int64, .timestamp: .integer
        case .bool: .bool
        case .string: .text
        case .list, .vector: nil
        }
    }

    func write(_ paths: [String]) throws {
        let described = try groups.files.map { try self.described(in: $0) }
        var unit = 0
        for (index, path) in paths.enumerated() {
            let file = try OutputFile(path)
            try file.write(ParquetWriter.head)
            var writer = try ParquetWriter(columns: described[index], settings: settings.output)
            var end = unit
            while end < groups.groups.count, groups.groups[end].file == index { end += 1 }
            // Several groups are encoded at once, and written in their order.
            while unit < end {
                let wave = unit..<min(end, unit + workers.count)
                let encoded = Mutex<[Int: ParquetWriter.RowGroup]>([:])
                try workers.run(units: wave.count, state: { () }) { _, offset in
                    let group = try encode(wave.lowerBound + offset, described[index])
                    encoded.withLock { $0[offset] = group }
                }
                for offset in 0..<wave.count {
                    if let group = encoded.withLock({ $0.removeValue(forKey: offset) }) {
                        try file.write(writer.append(group))
                    }
                }
                unit = wave.upperBound
            }
            try file.write(writer.finish())
        }
    }

    private func encode(_ unit: Int, _ described: [FileColumn]) throws -> ParquetWriter.RowGroup {
        let group = groups.groups[unit]
        let file = groups.files[group.file]
        // For each view the words of its features, feature by feature.
        var found: [[(words: [Int64], present: [UInt8])]] = []
        for answers in answers {
            let (memory, count) = try answers.records.take(unit)
            defer { memory.deallocate() }
            found.append(columns(of: answers, memory, count, group))
        }
        var vectors: [ColumnVector] = []
        for column in columns {
            switch column {
            case .question(let name):
                vectors.append(try file.reader.column(try file.position(name), ofRowGroup: group.index))
            case .feature(let view, let feature):
                let (words, present) = found[view][feature]
                if answers[view].view.plan.features[feature].type == .string {
                    vectors.append(answers[view].texts.write(words, present))
                } else {
                    vectors.append(ColumnVector(words: words, present: present.contains(0) ? present : nil))
                }
            }
        }
        return try ParquetWriter.encode(vectors, columns: described, settings: settings.output)
    }

    private func columns(
        of answers: ViewAnswers, _ memory: UnsafeMutablePointer<Int64>, _ count: Int, _ group: QuestionGroups.Group
    ) -> [(words: [Int64], present: [UInt8])] {
        let layout = answers.layout
        let width = layout.width + 1
        // Where each row's answer is; then each column is filled from its first row to its last.
        var places = [Int](repeating: 0, count: group.rowCount)
        for index in 0..<count { places[Int(memory[index * width]) - group.firstRow] = index * width + 1 }
        return answers.view.plan.features.indices.map { feature in
            var words = [Int64](repeating: 0, count: group.rowCount)
            var present = [UInt8](repeating: 0, count: group.rowCount)
            for row in 0..<group.rowCount {
                let answer = UnsafePointer(memory + places[row])
                if layout.hasValue(answer, feature) {
                    present[row] = 1
                    words[row] = layout.word(answer, feature)
                }
            }
            return (words, present)
        }
    }
}
