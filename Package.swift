// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6), .treatAllWarnings(as: .error), .treatWarning("DeprecatedDeclaration", as: .warning),
    .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"), .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
]

/// Where the fuzzer is built, our own modules tell it what of them was reached; everything else is built as ever.
///
/// It is optimized and keeps the checks of a debug build: assertions, and those of the standard library that a release build
/// leaves out, as of unsafe pointers' bounds.
let isFuzzed = Context.environment["BOTTEGA_ONLY"] == "bottega-fuzz"
let watched: [SwiftSetting] =
    isFuzzed
    ? [.unsafeFlags(["-sanitize=fuzzer,address", "-assert-config", "Debug", "-enforce-exclusivity=checked"])] : []

/// A library target of one ring.
///
/// Its path says which ring it lives in; `uses` may only name rows above its own.
func module(
    _ name: String, in ring: String, uses: [Target.Dependency] = [], resources: [Resource]? = nil,
    more: [SwiftSetting] = []
) -> Target {
    .target(
        name: name, dependencies: uses, path: "Sources/\(ring)/\(name)", resources: resources,
        swiftSettings: settings + watched + more)
}

/// A test target under `Tests/`.
func tests(_ path: String, named name: String, uses: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .testTarget(
        name: name, dependencies: uses, path: "Tests/\(path)", resources: resources, swiftSettings: settings)
}

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let configuration: Target.Dependency = .product(name: "Configuration", package: "swift-configuration")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioHTTP2: Target.Dependency = .product(name: "NIOHTTP2", package: "swift-nio-http2")
let nioHTTPTypes: Target.Dependency = .product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let nioTLS: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let serviceLifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let subprocess: Target.Dependency = .product(name: "Subprocess", package: "swift-subprocess")
let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")
let unixSignals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")

/// What `FuzzTargets` throws bytes at.
let fuzzed: [Target.Dependency] = [
    "PlatformCore", "Expressions", "Definitions", "Aggregation", "Statistics", "ColumnFiles", "GRPCWire",
    "StoragePorts", "RuntimePorts", "Datasets", "FeatureStore", "ExperimentTracking", "ModelRegistry", "ModelServing",
    "ModelMonitoring", "Catalogue", "APIContract", "InferenceAPI", "MLflowAPI", "MLflowImport", "FeastAPI",
    "FileSystemAdapter", "LMDBAdapter", "DuckDBAdapter", "ProcessAdapter", "TreeModelAdapter", "LinearModelAdapter",
    "RemoteModelAdapter", "ONNXAdapter", nioCore, yams,
]

let targets: [Target] = [  // each row leans only on rows above it
    // Core: values and arithmetic; no I/O, no clock, no logging.
    module("PlatformCore", in: "Core"),
    module("ContentHashing", in: "Core", uses: ["PlatformCore", crypto]),
    module("Expressions", in: "Core", uses: ["PlatformCore", crypto]),
    module("Statistics", in: "Core", uses: ["PlatformCore"]),
    module("Definitions", in: "Core", uses: ["PlatformCore", "ContentHashing", "Expressions", "Statistics", yams]),
    module("Aggregation", in: "Core", uses: ["PlatformCore", "Expressions", "Definitions"]),
    .systemLibrary(
        name: "CZstd", path: "Sources/Core/CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    module("ColumnFiles", in: "Core", uses: ["CZstd"]),
    module("GRPCWire", in: "Core", uses: ["PlatformCore", nioCore, nioHTTP2]),
    // Ports: what the platform asks of the outside world.
    module("StoragePorts", in: "Ports", uses: ["PlatformCore", "ContentHashing"]),
    module("RuntimePorts", in: "Ports", uses: ["PlatformCore"]),
    // Layers: the lifecycle from top to bottom.
    module(
        "Datasets", in: "Layers/1-Data",
        uses: ["PlatformCore", "ContentHashing", "Expressions", "Definitions", "StoragePorts"]),
    module(
        "FeatureStore", in: "Layers/2-Features",
        uses: [
            "PlatformCore", "ContentHashing", "Expressions", "Definitions", "Aggregation", "ColumnFiles",
            "StoragePorts", "Datasets",
        ]),
    module("ExperimentTracking", in: "Layers/3-Training", uses: ["PlatformCore", "ContentHashing", "StoragePorts"]),
    module(
        "TrainingJobs", in: "Layers/3-Training",
        uses: ["PlatformCore", "Definitions", "StoragePorts", "RuntimePorts", logging]),
    module(
        "ModelRegistry", in: "Layers/4-Registry",
        uses: [
            "PlatformCore", "ContentHashing", "Definitions", "Statistics", "StoragePorts", "ExperimentTracking", yams,
        ]),
    module(
        "ModelServing", in: "Layers/5-Serving",
        uses: [
            "PlatformCore", "Expressions", "Definitions", "Aggregation", "Statistics", "StoragePorts", "RuntimePorts",
            "FeatureStore", "ModelRegistry", logging,
        ]),
    module(
        "ModelMonitoring", in: "Layers/6-Monitoring",
        uses: [
            "PlatformCore", "Definitions", "Statistics", "StoragePorts", "ModelServing",
        ]),
    // Control: pipelines that cross layers, audit.
    module(
        "Governance", in: "Control",
        uses: ["PlatformCore", "ContentHashing", "StoragePorts", crypto, logging, serviceLifecycle]),
    module(
        "Catalogue", in: "Control",
        uses: [
            "PlatformCore", "ContentHashing", "Expressions", "Definitions", "StoragePorts", "Datasets", "FeatureStore",
            "ModelRegistry", logging, serviceLifecycle,
        ]),
    module(
        "Workflows", in: "Control",
        uses: [
            "PlatformCore", "Expressions", "Definitions", "Statistics", "ColumnFiles", "StoragePorts", "RuntimePorts",
            "Datasets",
            "FeatureStore", "ExperimentTracking", "TrainingJobs", "ModelRegistry", "ModelServing", "Governance",
            "Catalogue", logging,
            serviceLifecycle,
        ]),
    // Adapters: they see only ports and core.
    .systemLibrary(
        name: "CLMDB", path: "Sources/Adapters/CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
    .systemLibrary(name: "CCRC32C", path: "Sources/Adapters/CCRC32C"),
    .systemLibrary(name: "CZlib", path: "Sources/Adapters/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(
        name: "CPostgreSQL", path: "Sources/Adapters/CPostgreSQL", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    module("SQLiteAdapter", in: "Adapters", uses: ["PlatformCore", "StoragePorts", grdb]),
    module("FileSystemAdapter", in: "Adapters", uses: ["PlatformCore", "StoragePorts", "CCRC32C", "CZlib", "CZstd"]),
    module("PostgreSQLAdapter", in: "Adapters", uses: ["PlatformCore", "StoragePorts", "CPostgreSQL"]),
    module(
        "LMDBAdapter", in: "Adapters", uses: ["PlatformCore", "ContentHashing", "StoragePorts", "CLMDB"],
        more: [.strictMemorySafety()]),
    module("DuckDBAdapter", in: "Adapters", uses: ["PlatformCore", "StoragePorts", subprocess, system, logging]),
    module("SparkAdapter", in: "Adapters", uses: ["PlatformCore", "StoragePorts", logging]),
    module(
        "ProcessAdapter", in: "Adapters", uses: ["PlatformCore", "ContentHashing", "RuntimePorts"],
        resources: [.embedInCode("Workers/worker.py")]),
    module("TreeModelAdapter", in: "Adapters", uses: ["PlatformCore", "RuntimePorts"]),
    module("LinearModelAdapter", in: "Adapters", uses: ["PlatformCore", "RuntimePorts"]),
    module(
        "RemoteModelAdapter", in: "Adapters",
        uses: [
            "PlatformCore", "ContentHashing", "GRPCWire", "RuntimePorts", nioCore, nioHTTP1, nioHTTP2, nioPosix, nioSSL,
            nioTLS,
        ]),
    // Types and positions only: the library is opened while the program runs.
    .systemLibrary(name: "CONNXRuntime", path: "Sources/Adapters/CONNXRuntime"),
    module("ONNXAdapter", in: "Adapters", uses: ["PlatformCore", "ContentHashing", "RuntimePorts", "CONNXRuntime"]),
    // Edge: the HTTP contract and what speaks it.
    module("APIContract", in: "Edge", uses: ["PlatformCore"]),
    module(
        "MLflowAPI", in: "Edge",
        uses: [
            "PlatformCore", "GRPCWire", "Definitions", "APIContract", "StoragePorts", "ExperimentTracking",
            "ModelRegistry", "Governance", logging,
        ]),
    module(
        "FeastAPI", in: "Edge",
        uses: ["PlatformCore", "Definitions", "StoragePorts", "Datasets", "FeatureStore", "APIContract"]),
    module(
        "InferenceAPI", in: "Edge",
        uses: [
            "PlatformCore", "GRPCWire", "Definitions", "RuntimePorts", "ModelServing", "APIContract", logging, nioCore,
            nioHTTP2, nioPosix, serviceLifecycle,
        ]),
    .target(name: "CEpoll", path: "Sources/Edge/CEpoll"),
    module(
        "Gateway", in: "Edge",
        uses: [
            "CEpoll", "PlatformCore", "ContentHashing", "Definitions", "Statistics", "StoragePorts", "RuntimePorts",
            "Datasets",
            "FeatureStore",
            "ExperimentTracking", "TrainingJobs", "ModelRegistry", "ModelServing", "Governance", "Catalogue",
            "Workflows",
            "APIContract",
            hummingbird, httpTypes, logging, nioCore, nioHTTP1, nioHTTPTypes, nioPosix, serviceLifecycle,
        ]),
    module("MLflowImport", in: "Edge", uses: ["PlatformCore", "ContentHashing", "StoragePorts"]),
    module("CommandLine", in: "Edge", uses: ["PlatformCore", "APIContract", argumentParser]),
    // What tests lean on.
    module("PlatformTesting", in: "TestSupport", uses: ["PlatformCore", "StoragePorts"]),
    module("PortContracts", in: "TestSupport", uses: ["PlatformCore", "StoragePorts", "PlatformTesting"]),
    .executableTarget(
        name: "crash-writer", dependencies: ["PlatformCore", "StoragePorts", "FileSystemAdapter", "LMDBAdapter"],
        path: "Sources/TestSupport/CrashWriter", swiftSettings: settings),
    // What `Benchmarks/README.md` calls the stream harness: whole paths, measured for minutes rather than repeated.
    .executableTarget(
        name: "stream-bench",
        dependencies: [
            "PlatformCore", "Definitions", "Aggregation", "StoragePorts", "Datasets", "FeatureStore",
            "FileSystemAdapter", "LMDBAdapter", "SQLiteAdapter",
        ], path: "Benchmarks/Stream", swiftSettings: settings),
    // The point-in-time join as a command of its own: `Benchmarks/training_set.py` measures it.
    .executableTarget(
        name: "training-set-join",
        dependencies: ["PlatformCore", "Definitions", "Aggregation", "ColumnFiles", "FeatureStore"],
        path: "Benchmarks/TrainingSet", swiftSettings: settings),
    // Metrics and bootstrap intervals of many rows: `Benchmarks/evaluation.py` measures them beside scikit-learn.
    .executableTarget(
        name: "evaluation-report", dependencies: ["PlatformCore", "ColumnFiles", "Statistics"],
        path: "Benchmarks/Evaluation", swiftSettings: settings),
    // One model file, timed in process: `Benchmarks/model_scoring.py` measures it beside other scorers.
    .executableTarget(
        name: "model-timing", dependencies: ["PlatformCore", "RuntimePorts", "TreeModelAdapter", "ONNXAdapter"],
        path: "Benchmarks/ModelTiming", swiftSettings: settings),
    // What was live at a moment, with a long history: run by hand.
    .executableTarget(
        name: "registry-live",
        dependencies: ["PlatformCore", "Definitions", "StoragePorts", "ModelRegistry", "SQLiteAdapter"],
        path: "Benchmarks/Registry", swiftSettings: settings),
    // What following the prediction log costs the monitor process: run by hand.
    .executableTarget(
        name: "monitor-timing",
        dependencies: [
            "PlatformCore", "Definitions", "Statistics", "StoragePorts", "ModelServing", "ModelMonitoring",
            "FileSystemAdapter",
        ], path: "Benchmarks/Monitoring", swiftSettings: settings),
    // Readers of bytes from outside, one entry for each: `FuzzCorpusTests` replays what was found, `make fuzz` finds more.
    .target(
        name: "FuzzTargets", dependencies: fuzzed, path: "Fuzz/Targets",
        swiftSettings: settings + (isFuzzed ? [.define("FUZZED")] : [])),
    // The one executable and composition root: the only code that names an adapter.
    .executableTarget(
        name: "bottega",
        dependencies: [
            "PlatformCore", "Definitions", "StoragePorts", "RuntimePorts", "Datasets", "FeatureStore",
            "ExperimentTracking", "TrainingJobs", "ModelRegistry", "ModelServing", "ModelMonitoring", "Governance",
            "Catalogue", "Workflows", "APIContract", "MLflowAPI", "MLflowImport", "FeastAPI", "InferenceAPI", "Gateway",
            "CommandLine",
            "SQLiteAdapter",
            "FileSystemAdapter", "LMDBAdapter", "DuckDBAdapter", "PostgreSQLAdapter", "SparkAdapter", "ProcessAdapter",
            "TreeModelAdapter", "LinearModelAdapter", "RemoteModelAdapter", "ONNXAdapter", argumentParser,
            configuration,
            logging,
            serviceLifecycle, unixSignals, yams,
        ],
        path: "Sources/Apps/bottega", swiftSettings: settings),

    .testTarget(
        name: "FuzzCorpusTests", dependencies: ["FuzzTargets"], path: "Tests/Unit/FuzzCorpusTests",
        exclude: ["Corpus"], swiftSettings: settings),
    tests("Unit/ExpressionsTests", named: "ExpressionsTests", uses: ["PlatformCore", "Expressions"]),
    tests("Unit/AggregationTests", named: "AggregationTests", uses: ["PlatformCore", "Definitions", "Aggregation"]),
    .testTarget(
        name: "ColumnFilesTests", dependencies: ["ColumnFiles"], path: "Tests/Unit/ColumnFilesTests",
        exclude: ["Fixtures", "make_fixtures.py"], swiftSettings: settings),
    tests("Unit/StatisticsTests", named: "StatisticsTests", uses: ["PlatformCore", "Statistics"]),
    tests(
        "Unit/DatasetsTests", named: "DatasetsTests",
        uses: [
            "PlatformCore", "PlatformTesting", "ContentHashing", "Definitions", "StoragePorts", "Datasets",
            "DuckDBAdapter",
            "SQLiteAdapter", "FileSystemAdapter",
        ]),
    tests(
        "Unit/FeatureStoreTests", named: "FeatureStoreTests",
        uses: [
            "PlatformCore", "PlatformTesting", "ContentHashing", "Definitions", "Aggregation", "StoragePorts",
            "Datasets", "FeatureStore",
        ]),
    tests(
        "Unit/ExperimentTrackingTests", named: "ExperimentTrackingTests",
        uses: [
            "PlatformCore", "ContentHashing", "StoragePorts", "ExperimentTracking", "SQLiteAdapter",
            "FileSystemAdapter",
        ]),
    tests(
        "Unit/TrainingJobsTests", named: "TrainingJobsTests",
        uses: [
            "PlatformCore", "Definitions", "StoragePorts", "RuntimePorts", "TrainingJobs", "ProcessAdapter",
            "SQLiteAdapter", logging,
        ]),
    tests(
        "Unit/ModelRegistryTests", named: "ModelRegistryTests",
        uses: ["PlatformCore", "Definitions", "Statistics", "StoragePorts", "ModelRegistry", "SQLiteAdapter"]),
    tests(
        "Unit/ModelMonitoringTests", named: "ModelMonitoringTests",
        uses: [
            "PlatformCore", "PlatformTesting", "Definitions", "Statistics", "StoragePorts", "ModelServing",
            "ModelMonitoring",
        ]),
    tests("Unit/CatalogueTests", named: "CatalogueTests", uses: ["PlatformCore", "Definitions", "Catalogue"]),
    tests(
        "Unit/GovernanceTests", named: "GovernanceTests",
        uses: ["PlatformCore", "StoragePorts", "Governance", "SQLiteAdapter"]),
    tests(
        "Unit/MLflowImportTests", named: "MLflowImportTests",
        uses: ["PlatformCore", "StoragePorts", "Statistics", "MLflowImport"]),
    tests(
        "Unit/MLflowAPITests", named: "MLflowAPITests",
        uses: [
            "PlatformCore", "StoragePorts", "ExperimentTracking", "APIContract", "MLflowAPI", "SQLiteAdapter",
            "FileSystemAdapter", logging,
        ]),
    tests(
        "Unit/FeastAPITests", named: "FeastAPITests",
        uses: ["PlatformCore", "Definitions", "FeatureStore", "APIContract", "FeastAPI"]),
    tests(
        "Unit/InferenceAPITests", named: "InferenceAPITests",
        uses: [
            "PlatformCore", "GRPCWire", "Definitions", "ModelServing", "APIContract", "InferenceAPI",
            "PlatformTesting", nioCore,
        ]),
    tests(
        "Unit/SQLiteAdapterTests", named: "SQLiteAdapterTests", uses: ["PlatformCore", "StoragePorts", "SQLiteAdapter"]),
    tests(
        "Unit/FileSystemAdapterTests", named: "FileSystemAdapterTests",
        uses: ["PlatformCore", "StoragePorts", "FileSystemAdapter", "PlatformTesting", "crash-writer"]),
    tests(
        "Unit/LMDBAdapterTests", named: "LMDBAdapterTests",
        uses: ["PlatformCore", "StoragePorts", "LMDBAdapter", "PlatformTesting", "crash-writer"]),
    tests(
        "Unit/DuckDBAdapterTests", named: "DuckDBAdapterTests", uses: ["PlatformCore", "StoragePorts", "DuckDBAdapter"]),
    tests(
        "Unit/SparkAdapterTests", named: "SparkAdapterTests", uses: ["PlatformCore", "StoragePorts", "SparkAdapter"]),
    tests(
        "Unit/ProcessAdapterTests", named: "ProcessAdapterTests",
        uses: ["PlatformCore", "RuntimePorts", "ProcessAdapter"]),
    tests(
        "Unit/TreeModelAdapterTests", named: "TreeModelAdapterTests",
        uses: ["PlatformCore", "RuntimePorts", "TreeModelAdapter"]),
    tests(
        "Unit/LinearModelAdapterTests", named: "LinearModelAdapterTests", uses: ["RuntimePorts", "LinearModelAdapter"]),
    tests(
        "Unit/RemoteModelAdapterTests", named: "RemoteModelAdapterTests",
        uses: [
            "PlatformCore", "GRPCWire", "RuntimePorts", "RemoteModelAdapter", "PlatformTesting", nioCore, nioHTTP2,
            nioPosix,
        ]),
    tests("Unit/ONNXAdapterTests", named: "ONNXAdapterTests", uses: ["RuntimePorts", "ONNXAdapter"]),
    tests(
        "Unit/PlatformCoreTests", named: "PlatformCoreTests", uses: ["PlatformCore", "PlatformTesting"]),
    tests(
        "Unit/DefinitionsTests", named: "DefinitionsTests",
        uses: ["PlatformCore", "Expressions", "Definitions", "PlatformTesting"]),
    tests(
        "Unit/ModelServingTests", named: "ModelServingTests",
        uses: [
            "PlatformCore", "Definitions", "StoragePorts", "RuntimePorts", "ModelServing", "PlatformTesting", logging,
        ]),
    tests(
        "Unit/WorkflowsTests", named: "WorkflowsTests",
        uses: [
            "PlatformCore", "Definitions", "StoragePorts", "ModelServing", "Workflows", "SQLiteAdapter",
            "PlatformTesting",
            logging, serviceLifecycle,
        ]),
    tests(
        "Unit/GatewayTests", named: "GatewayTests",
        uses: [
            "PlatformCore", "StoragePorts", "RuntimePorts", "APIContract", "Gateway", httpTypes, hummingbird,
            nioEmbedded,
        ]),
    tests(
        "Contracts", named: "ContractTests",
        uses: [
            "PlatformCore", "StoragePorts", "FileSystemAdapter", "LMDBAdapter", "SQLiteAdapter", "PlatformTesting",
            "PortContracts",
        ]),
    tests(
        "Parity", named: "ParityTests",
        uses: [
            "PlatformCore", "Expressions", "Definitions", "Aggregation", "ColumnFiles", "StoragePorts", "Datasets",
            "FeatureStore", "ContentHashing", "SparkAdapter", crypto,
        ]),
]

/// `BOTTEGA_ONLY=AggregationTests,ParityTests swift build --build-tests` builds these targets and what they lean on.
let wanted = Context.environment["BOTTEGA_ONLY"]?.split(separator: ",").map(String.init) ?? []

/// The fuzzer, which is there only where it is asked for (`make fuzz`): it links against the compiler's own.
let fuzzer: [Target] =
    !isFuzzed
    ? []
    : [
        .systemLibrary(name: "CFuzzer", path: "Fuzz/CFuzzer"),
        .executableTarget(
            name: "bottega-fuzz", dependencies: ["PlatformCore", "FuzzTargets", "CFuzzer"], path: "Fuzz/Tool",
            swiftSettings: settings + watched,
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address", "-use-ld=lld"])]),
    ]

func closure(of roots: [String], in targets: [Target]) -> [Target] {
    var seen: Set<String> = []
    var open = roots
    while let name = open.popLast() {
        guard seen.insert(name).inserted, let target = targets.first(where: { $0.name == name }) else { continue }
        for case .byNameItem(let dependency, _) in target.dependencies { open.append(dependency) }
    }
    return targets.filter { seen.contains($0.name) }
}

let package = Package(
    name: "bottega",
    products: !wanted.isEmpty
        ? []
        : [
            .executable(name: "bottega", targets: ["bottega"]),
            // What `Benchmarks/` measures; no promise to anybody else.
            .library(
                name: "BottegaLibraries",
                targets: [
                    "PlatformCore", "ContentHashing", "Definitions", "Aggregation", "Statistics", "StoragePorts",
                    "RuntimePorts",
                    "Datasets", "FeatureStore", "ModelServing", "ModelMonitoring", "FileSystemAdapter", "LMDBAdapter",
                    "TreeModelAdapter", "PlatformTesting",
                ]),
        ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
    ],
    targets: wanted.isEmpty ? targets : closure(of: wanted, in: targets + fuzzer)
)
