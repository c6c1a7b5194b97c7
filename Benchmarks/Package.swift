// swift-tools-version: 6.2
import PackageDescription

// A package of its own: who builds the product fetches none of the benchmark tool's dependencies.
let package = Package(
    name: "bottega-benchmarks",
    dependencies: [
        .package(name: "bottega", path: ".."),
        // Without its traits: they replace malloc, which would be measured with the rest.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
    ],
    targets: [
        .executableTarget(
            name: "bottega-benchmarks",
            dependencies: [
                .product(name: "BottegaLibraries", package: "bottega"),
                .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Sources",
            swiftSettings: [
                .swiftLanguageMode(.v6), .treatAllWarnings(as: .error),
                .treatWarning("DeprecatedDeclaration", as: .warning), .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("InternalImportsByDefault"), .enableUpcomingFeature("MemberImportVisibility"),
            ])
    ]
)
