/// How Spark is run.
public struct SparkConfiguration: Sendable {
    /// A Python interpreter that has `pyspark` (4.x), which brings Spark itself; Java 17 is found by Spark.
    public var pythonPath: String
    /// Where queries run: `local[N]`, `spark://host:port`, `yarn`, `k8s://…`.
    public var master: String
    /// An installation to use instead of the one inside `pyspark`; `nil` for that one.
    public var sparkHome: String?
    /// Memory of the driver's heap in bytes; in `local` mode that is all of it.
    public var memoryByteCount: Int
    /// Folder for spill files, the warehouse and the words of a child that died.
    public var folder: String
    /// Tasks of a shuffle.
    public var shufflePartitionCount: Int
    /// Time until the session must be there.
    public var startDeadline: Duration
    /// Spark's own settings, over those that the platform gives.
    public var more: [String: String]
    /// Makes a configuration.
    public init(
        pythonPath: String, master: String = "local[2]", sparkHome: String? = nil, memoryByteCount: Int = 2 << 30,
        folder: String, shufflePartitionCount: Int = 8, startDeadline: Duration = .seconds(120),
        more: [String: String] = [:]
    ) {
        self.pythonPath = pythonPath
        self.master = master
        self.sparkHome = sparkHome
        self.memoryByteCount = max(512 << 20, memoryByteCount)
        self.folder = folder
        self.shufflePartitionCount = max(1, shufflePartitionCount)
        self.startDeadline = startDeadline
        self.more = more
    }

    /// What the session is told at its start.
    var settings: [String: String] {
        let settings = [
            "spark.driver.memory": "\(memoryByteCount >> 20)m",
            "spark.sql.session.timeZone": "UTC",
            // An overflow is an error with a name, never a null.
            "spark.sql.ansi.enabled": "true",
            "spark.sql.shuffle.partitions": "\(shufflePartitionCount)",
            "spark.sql.warehouse.dir": folder + "/warehouse",
            "spark.local.dir": folder + "/spill",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.parquet.compression.codec": "zstd",
            "spark.sql.catalogImplementation": "in-memory",
            "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -Dderby.system.home=\(folder)",
        ]
        return settings.merging(more) { $1 }
    }
}
