public import Definitions
import PlatformCore

/// Deals the units of a deployment (a plane, a customer) to points that never change: the same on every node, after every
/// restart.
///
/// The hash is FNV-1a (64 bit) over the salt and, for each field of `sticky_by`, the byte 0x1F and the field: the UTF-8
/// bytes of a key (none for null), or the eight little-endian bytes of a number's IEEE 754 pattern (all ones for NaN, zero
/// for both zeros). The finalizer of SplitMix64 then mixes it: `h ^= h>>30; h *= 0xBF58476D1CE4E5B9; h ^= h>>27;
/// h *= 0x94D049BB133111EB; h ^= h>>31`. The point is `⌊(h >> 11) · 2⁻⁵³ · 10⁶⌋`. The holdout has points of its own:
/// those of `h ^ 0x9E3779B97F4A7C15` mixed once more.
public struct StickyHash: Sendable {
    private enum Field {
        /// Position among the join keys.
        case key(Int)
        /// Position among the inputs, for a request feature.
        case input(Int)
    }
    private let fields: [Field]
    /// The hash of the salt.
    private let start: UInt64

    /// Points in all; the points are below it.
    public static let pointCount = 1_000_000

    /// Finds the fields of a deployment in its feature service.
    public init(_ definition: DeploymentDefinition, service: FeatureServiceDefinition) {
        fields = definition.stickyBy.compactMap { name in
            if let position = service.joinKeys.firstIndex(of: name) { return .key(position) }
            return service.request.firstIndex { $0.name == name }.map(Field.input)
        }
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in (definition.rollout.salt ?? definition.name.text).utf8 { Self.add(byte, to: &hash) }
        start = hash
    }

    private static func add(_ byte: UInt8, to hash: inout UInt64) {
        hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
    }

    private static func mixed(_ value: UInt64) -> UInt64 {
        var hash = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        hash = (hash ^ (hash >> 27)) &* 0x94D0_49BB_1331_11EB
        return hash ^ (hash >> 31)
    }

    /// The unit that these join keys and inputs belong to.
    public func unit(keys: [String?], inputs: [Double]) -> UInt64 {
        var hash = start
        for field in fields {
            Self.add(0x1F, to: &hash)
            switch field {
            case .key(let position):
                if let key = keys[position] { for byte in key.utf8 { Self.add(byte, to: &hash) } }
            case .input(let position):
                let value = inputs[position]
                let bits = value.isNaN ? UInt64.max : value == 0 ? 0 : value.bitPattern
                for shift in stride(from: 0, through: 56, by: 8) {
                    Self.add(UInt8(truncatingIfNeeded: bits >> shift), to: &hash)
                }
            }
        }
        return Self.mixed(hash)
    }

    /// The unit of a logged prediction; `nil` if it was made with another service.
    public func unit(of record: PredictionRecord) -> UInt64? {
        for field in fields {
            switch field {
            case .key(let position): guard record.entities.indices.contains(position) else { return nil }
            case .input(let position): guard record.inputs.indices.contains(position) else { return nil }
            }
        }
        return unit(keys: record.entities.map(\.value), inputs: record.inputs)
    }

    /// Where a unit stands among the variants.
    public static func point(of unit: UInt64) -> Int {
        Int(Double(unit >> 11) * 0x1p-53 * Double(pointCount))
    }

    /// Where a unit stands for the holdout, whatever its point among the variants.
    public static func holdoutPoint(of unit: UInt64) -> Int { point(of: mixed(unit ^ 0x9E37_79B9_7F4A_7C15)) }
}
