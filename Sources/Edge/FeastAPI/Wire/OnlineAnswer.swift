import Definitions
import FeatureStore
import PlatformCore

/// What does not change between two requests for the same features: written once.
struct FeastPlan: Sendable {
    let selection: FeatureSelection
    /// `"metadata":{…}` without and with the versions of the views.
    let metadata: (plain: [UInt8], versioned: [UInt8])

    init(_ selection: FeatureSelection, hasFullNames: Bool) throws {
        self.selection = selection
        let names = selection.features.map { hasFullNames ? $0.servedName : $0.feature }
        var seen: Set<String> = []
        let twice = Set(names.filter { !seen.insert($0).inserted }).sorted()
        guard twice.isEmpty else {
            throw FeastError(
                "FeatureNameCollisionError", 422,
                "Duplicate features named \(twice.joined(separator: ", ")) found."
                    + (hasFullNames ? " Ask for each once." : " Set full_feature_names to true."))
        }
        let list = JSONValue.array((selection.joinKeys.map(\.name) + names).map(JSONValue.string)).text
        let versions = JSONValue.array(
            selection.versions.map {
                ["name": .string($0.view.text), "version": 0, "version_name": .string($0.version.text)]
            }
        ).text
        metadata = (
            Array("\"metadata\":{\"feature_names\":\(list)}".utf8),
            Array("\"metadata\":{\"feature_names\":\(list),\"feature_view_metadata\":\(versions)}".utf8)
        )
    }
}

/// Writes the answer, column by column.
enum OnlineAnswer {
    private static let never = Array("\"1970-01-01T00:00:00Z\"".utf8)

    static func bytes(
        _ plan: FeastPlan, _ entities: EntityColumns, _ features: OnlineFeatures, hasVersions: Bool
    ) -> [UInt8] {
        let selection = plan.selection
        let featureCount = selection.features.count
        var out: [UInt8] = []
        out.reserveCapacity(256 + (featureCount + 1) * entities.count * 72 + plan.metadata.versioned.count)
        out.append(contentsOf: "{\"results\":[".utf8)
        var isFirst = true
        for column in entities.echoes {
            begin(&isFirst, &out)
            list(entities.count, &out) { entity, out in column[entity].write(to: &out) }
            out.append(contentsOf: "],\"statuses\":[".utf8)
            list(entities.count, &out) { entity, out in
                out.append(contentsOf: column[entity].isNull ? "\"NULL_VALUE\"".utf8 : "\"PRESENT\"".utf8)
            }
            out.append(contentsOf: "],\"event_timestamps\":[".utf8)
            list(entities.count, &out) { _, out in out.append(contentsOf: never) }
            out.append(contentsOf: "]}".utf8)
        }
        // Features of one view have the same moment: its text is written once for the columns that follow each other.
        var moment: EventTime?
        var momentText = never
        for feature in 0..<featureCount {
            begin(&isFirst, &out)
            let isMoment = selection.types[feature] == .timestamp
            list(entities.count, &out) { entity, out in
                write(features.entities[entity].values[feature], isMoment: isMoment, to: &out)
            }
            out.append(contentsOf: "],\"statuses\":[".utf8)
            list(entities.count, &out) { entity, out in
                out.append(0x22)
                out.append(contentsOf: features.entities[entity].statuses[feature].text.utf8)
                out.append(0x22)
            }
            out.append(contentsOf: "],\"event_timestamps\":[".utf8)
            list(entities.count, &out) { entity, out in
                let time = features.entities[entity].eventTimes[feature]
                if time != moment {
                    moment = time
                    momentText = never
                    if let time {
                        momentText = [0x22]
                        FeastTime.write(time, to: &momentText)
                        momentText.append(0x22)
                    }
                }
                out.append(contentsOf: momentText)
            }
            out.append(contentsOf: "]}".utf8)
        }
        out.append(contentsOf: "],".utf8)
        out.append(contentsOf: hasVersions ? plan.metadata.versioned : plan.metadata.plain)
        out.append(0x7D)
        return out
    }

    private static func begin(_ isFirst: inout Bool, _ out: inout [UInt8]) {
        if !isFirst { out.append(0x2C) }
        isFirst = false
        out.append(contentsOf: "{\"values\":[".utf8)
    }

    @inline(__always)
    private static func list(_ count: Int, _ out: inout [UInt8], _ write: (Int, inout [UInt8]) -> Void) {
        for index in 0..<count {
            if index > 0 { out.append(0x2C) }
            write(index, &out)
        }
    }

    /// A value as Feast writes it: moments are whole seconds.
    private static func write(_ value: CellValue, isMoment: Bool, to out: inout [UInt8]) {
        switch value {
        case .null: out.append(contentsOf: "null".utf8)
        case .integer(let number):
            let seconds = number / 1000 - (number % 1000 < 0 ? 1 : 0)
            out.append(contentsOf: String(isMoment ? seconds : number).utf8)
        case .double(let number): JSONValue.write(number, to: &out)
        case .bool(let flag): out.append(contentsOf: flag ? "true".utf8 : "false".utf8)
        case .text(let text): JSONValue.write(text, to: &out)
        case .list(let values):
            out.append(0x5B)
            for (index, value) in values.enumerated() {
                if index > 0 { out.append(0x2C) }
                write(value, isMoment: false, to: &out)
            }
            out.append(0x5D)
        }
    }
}
