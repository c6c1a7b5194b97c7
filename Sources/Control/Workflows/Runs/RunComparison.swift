public import PlatformCore

/// Runs beside each other: what each says to every question, and where they differ.
public struct RunComparison: Sendable {
    /// One fact of several runs.
    public struct Row: Sendable, Hashable {
        /// The fact's name.
        public let name: String
        /// What each run says; `nil` where it says nothing.
        public let values: [JSONValue?]

        /// Whether not all say the same.
        public var differs: Bool { values.dropFirst().contains { $0 != values[0] } }
        /// Second value less first, if both are numbers.
        public var difference: Double? {
            guard values.count == 2, let left = values[0]?.doubleValue, let right = values[1]?.doubleValue else {
                return nil
            }
            return right - left
        }
    }

    /// The runs.
    public let reports: [RunReport]
    /// Facts by section, each sorted by name.
    public let sections: [(section: RunReport.Section, rows: [Row])]

    /// Compares at least one run.
    public init(_ reports: [RunReport]) {
        self.reports = reports
        sections = RunReport.Section.allCases.map { section in
            var names: Set<String> = []
            for report in reports { names.formUnion((report.sections[section] ?? [:]).keys) }
            return (
                section,
                names.sorted().map { name in
                    Row(name: name, values: reports.map { $0.sections[section]?[name] })
                }
            )
        }
    }

    /// Facts in which the runs differ.
    public var differences: [(section: RunReport.Section, rows: [Row])] {
        sections.map { ($0.section, $0.rows.filter(\.differs)) }.filter { !$0.rows.isEmpty }
    }

    /// The comparison as JSON: a list of facts for each section.
    public static func json(_ sections: [(section: RunReport.Section, rows: [Row])]) -> JSONValue {
        .object(
            Dictionary(
                uniqueKeysWithValues: sections.map { section, rows in
                    (
                        section.rawValue,
                        .array(
                            rows.map { row in
                                var members: [String: JSONValue] = [
                                    "name": .string(row.name), "values": .array(row.values.map { $0 ?? .null }),
                                    "differs": .bool(row.differs),
                                ]
                                if section == .metrics, let difference = row.difference {
                                    members["difference"] = RunReport.json(difference)
                                }
                                return .object(members)
                            })
                    )
                }))
    }
}
