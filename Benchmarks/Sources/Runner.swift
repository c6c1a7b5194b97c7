import Benchmark

/// Registers one benchmark for each hot path.
///
/// `swift package benchmark` starts this program once to list them and once for each of them, so that none inherits the
/// memory of another. Started by hand it runs all of them and prints raw histograms.
@main
struct Runner: BenchmarkRunnerHooks {
    static func registerBenchmarks() {
        registerEventAppend()
        registerWindows()
        registerOnlineRead()
        registerTreeScoring()
        registerPredictions()
        registerDrift()
    }
}
