import Testing

@testable import SparkAdapter

struct SQLStatementsTests {
    @Test
    func semicolonsInsideOfTextsNamesAndCommentsDoNotCut() {
        let script = "SELECT ';', 'a\\';b', \"x;\" AS `a;\\`; -- no; cut\nSELECT 2;\n ;SELECT 3"
        #expect(
            SQLStatements.split(script) == [
                "SELECT ';', 'a\\';b', \"x;\" AS `a;\\`", " -- no; cut\nSELECT 2", "SELECT 3",
            ])
        #expect(SQLStatements.split(" ;; ") == [])
        #expect(SQLStatements.split("SELECT 'open;") == ["SELECT 'open;"])
    }
}
