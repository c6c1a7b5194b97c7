/// The program that holds the Spark session: a Python interpreter with `pyspark` runs it.
///
/// It reads one request per line from standard input, `{"statements": […], "query": "…" or null}`, and answers each with
/// `{"row": {…}}` lines and one `{"done": true}` or `{"error": "…", "kind": "…"}` line. It leads its own process group and
/// ends the whole of it when its input closes, in the middle of a query too.
enum SparkWorker {
    static let program = #"""
        import decimal, json, os, queue, signal, sys, threading

        if os.getpid() != os.getpgrp():
            os.setpgid(0, 0)
        # What Spark prints must not come between the answers.
        answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1 << 16)
        os.dup2(2, 1)
        os.environ["TZ"] = "UTC"
        os.environ["PYSPARK_PYTHON"] = sys.executable
        settings = json.loads(sys.argv[1])
        requests = queue.Queue(maxsize=4)


        def read():
            for line in sys.stdin:
                requests.put(json.loads(line))
            answers.flush()
            os.killpg(0, signal.SIGKILL)


        threading.Thread(target=read, daemon=True).start()


        def answer(value):
            answers.write(json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n")


        def cell(value):
            if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
                return None
            if isinstance(value, decimal.Decimal):
                return str(value)
            if isinstance(value, (list, tuple)):
                return [cell(item) for item in value]
            if value is None or isinstance(value, (bool, int, float, str)):
                return value
            raise TypeError(f"a value of type {type(value).__name__} must be cast by the query")


        def kind(error):
            text = str(error)
            if "No space left on device" in text:
                return "full"
            if "OutOfMemory" in text or "Not enough memory" in text or "CANNOT_ACQUIRE_MEMORY" in text:
                return "memory"
            if "PATH_NOT_FOUND" in text:
                return "missing"
            if type(error).__name__ in ("AnalysisException", "ParseException", "ArithmeticException",
                                        "NumberFormatException", "DateTimeException", "SparkRuntimeException", "TypeError"):
                return "refused"
            return "failed"


        try:
            import pyspark
            from pyspark.sql import SparkSession

            builder = SparkSession.builder.appName("bottega").master(settings["master"])
            for name, value in settings["conf"].items():
                builder = builder.config(name, value)
            root = builder.getOrCreate()
            root.sparkContext.setLogLevel("ERROR")
            answer({"version": root.version})
        except BaseException as error:
            answer({"error": f"{type(error).__name__}: {error}"[:4000], "kind": "start"})
            answers.flush()
            sys.exit(1)
        answers.flush()

        number = 0
        while True:
            request = requests.get()
            session = root.newSession()
            number += 1
            try:
                # Tables of the call live in a database of its own.
                session.sql(f"CREATE DATABASE call_{number}")
                session.sql(f"USE call_{number}")
                for statement in request["statements"]:
                    session.sql(statement)
                if request["query"] is not None:
                    frame = session.sql(request["query"])
                    names = frame.columns
                    for row in frame.toLocalIterator():
                        answer({"row": {name: cell(value) for name, value in zip(names, row)}})
                answer({"done": True})
            except Exception as error:
                answer({"error": str(error).split("\n\nJVM stacktrace")[0][:4000], "kind": kind(error)})
            finally:
                session.sql("USE default")
                session.sql(f"DROP DATABASE IF EXISTS call_{number} CASCADE")
            answers.flush()
        """#
}
