import PlatformCore

@testable import TreeModelAdapter

/// Writes model files as XGBoost does, for tests of the readers.
struct ModelWriter {
    /// A part of a model document.
    indirect enum Part {
        case text(String)
        case floats([Float])
        case integers([Int32])
        case list([Part])
        case object([(String, Part)])
    }

    static func document(_ file: XGBoostFile) -> Part {
        let trees = file.trees.map { tree -> Part in
            .object([
                ("base_weights", .floats(tree.splitConditions)),
                ("categories", .integers(tree.categories)),
                ("categories_nodes", .integers(tree.categoryNodes)),
                ("categories_segments", .integers(tree.categorySegments)),
                ("categories_sizes", .integers(tree.categorySizes)),
                ("default_left", .integers(tree.defaultLeft)),
                ("left_children", .integers(tree.leftChildren)),
                ("right_children", .integers(tree.rightChildren)),
                ("split_conditions", .floats(tree.splitConditions)),
                ("split_indices", .integers(tree.splitFeatures)),
                ("split_type", .integers(tree.splitTypes)),
                ("sum_hessian", .floats(tree.covers)),
                (
                    "tree_param",
                    .object([("num_nodes", .text("\(tree.leftChildren.count)")), ("size_leaf_vector", .text("1"))])
                ),
            ])
        }
        let model = Part.object([
            ("cats", .object([("enc", .list([])), ("sorted_idx", .integers([]))])),
            (
                "gbtree_model_param",
                .object([("num_parallel_tree", .text("1")), ("num_trees", .text("\(file.trees.count)"))])
            ),
            ("tree_info", .integers(file.treeGroups)), ("trees", .list(trees)),
        ])
        let booster =
            file.booster == "dart"
            ? Part.object([
                ("gbtree", .object([("model", model), ("name", .text("gbtree"))])), ("name", .text("dart")),
                ("weight_drop", .floats(file.treeWeights)),
            ]) : .object([("model", model), ("name", .text(file.booster))])
        let learner: [(String, Part)] = [
            ("attributes", .object([("note", .text("quotes \" and \\ and \n"))])),
            ("feature_names", .list(file.featureNames.map { .text($0) })),
            ("feature_types", .list(file.featureTypes.map { .text($0) })),
            ("gradient_booster", booster),
            (
                "learner_model_param",
                .object([
                    ("base_score", .text(file.baseScore)), ("num_class", .text("\(file.classCount)")),
                    ("num_feature", .text("\(file.featureCount ?? 0)")), ("num_target", .text("\(file.targetCount)")),
                ])
            ),
            ("objective", .object([("name", .text(file.objective))])),
        ]
        return .object([("learner", .object(learner)), ("version", .integers([3, 2, 0]))])
    }

    static func json(_ file: XGBoostFile) -> [UInt8] {
        var out: [UInt8] = []
        writeJSON(document(file), to: &out)
        return out
    }

    private static func writeJSON(_ part: Part, to out: inout [UInt8]) {
        func separated<Item>(_ items: [Item], _ open: String, _ close: String, _ write: (Item) -> Void) {
            out += open.utf8
            for (index, item) in items.enumerated() {
                if index > 0 { out.append(0x2C) }
                write(item)
            }
            out += close.utf8
        }
        switch part {
        case .text(let text): JSONValue.write(text, to: &out)
        case .floats(let values):
            separated(values, "[", "]") { value in
                out +=
                    (value.isNaN ? "NaN" : value.isInfinite ? (value > 0 ? "Infinity" : "-Infinity") : "\(value)").utf8
            }
        case .integers(let values): separated(values, "[", "]") { out += "\($0)".utf8 }
        case .list(let parts): separated(parts, "[", "]") { writeJSON($0, to: &out) }
        case .object(let members):
            separated(members, "{", "}") { member in
                JSONValue.write(member.0, to: &out)
                out.append(0x3A)
                writeJSON(member.1, to: &out)
            }
        }
    }

    static func ubjson(_ file: XGBoostFile) -> [UInt8] {
        var out: [UInt8] = []
        writeUBJSON(document(file), to: &out)
        return out
    }

    private static func append<Integer: FixedWidthInteger>(_ value: Integer, to out: inout [UInt8]) {
        withUnsafeBytes(of: value.bigEndian) { out += $0 }
    }

    private static func appendText(_ text: String, to out: inout [UInt8]) {
        out.append(0x4C)
        append(Int64(text.utf8.count), to: &out)
        out += text.utf8
    }

    private static func writeUBJSON(_ part: Part, to out: inout [UInt8]) {
        switch part {
        case .text(let text):
            out.append(0x53)
            appendText(text, to: &out)
        case .floats(let values):
            out += "[$d#L".utf8
            append(Int64(values.count), to: &out)
            for value in values { append(value.bitPattern, to: &out) }
        case .integers(let values):
            out += "[$l#L".utf8
            append(Int64(values.count), to: &out)
            for value in values { append(value, to: &out) }
        case .list(let parts):
            out += "[#L".utf8
            append(Int64(parts.count), to: &out)
            for part in parts { writeUBJSON(part, to: &out) }
        case .object(let members):
            out.append(0x7B)
            for (name, part) in members {
                appendText(name, to: &out)
                writeUBJSON(part, to: &out)
            }
            out.append(0x7D)
        }
    }
}
