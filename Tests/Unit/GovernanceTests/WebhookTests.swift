import Governance
import PlatformCore
import StoragePorts
import Testing

@Suite struct WebhookAddressTests {
    @Test(arguments: [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1",
    ])
    func insideAddressesAreNotPublic(_ text: String) {
        #expect(!WebhookAddress.isPublic(ipv4: text.split(separator: ".").compactMap { UInt8($0) }))
    }

    @Test(arguments: ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "193.0.0.1"])
    func otherAddressesArePublic(_ text: String) {
        #expect(WebhookAddress.isPublic(ipv4: text.split(separator: ".").compactMap { UInt8($0) }))
    }

    @Test func addressesOfTheNewKindAreJudgedByWhatTheyCarry() {
        func address(_ head: [UInt8], _ tail: [UInt8]) -> [UInt8] {
            head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
        }
        #expect(!WebhookAddress.isPublic(ipv6: address([], [1])), "::1")
        #expect(!WebhookAddress.isPublic(ipv6: address([0xfe, 0x80], [1])), "link-local")
        #expect(!WebhookAddress.isPublic(ipv6: address([0xfc], [1])), "private")
        #expect(!WebhookAddress.isPublic(ipv6: address([], [0xff, 0xff, 10, 0, 0, 1])), "mapped")
        #expect(!WebhookAddress.isPublic(ipv6: address([0, 0x64, 0xff, 0x9b], [127, 0, 0, 1])), "translated")
        #expect(!WebhookAddress.isPublic(ipv6: address([0x20, 0x02, 192, 168, 0, 1], [1])), "6to4")
        #expect(WebhookAddress.isPublic(ipv6: address([0x2a, 0x00], [1])))
        #expect(!WebhookAddress.isPublic(ipv6: [1, 2, 3]))
    }
}
