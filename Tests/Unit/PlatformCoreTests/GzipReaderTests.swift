import Foundation
import PlatformCore
import Testing

struct GzipReaderTests {
    /// `hello hello hello hello\n` by gzip -9, and an empty content.
    private static let hello: [UInt8] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 203, 72, 205, 201, 201, 87, 200, 64, 39, 185, 0, 0, 136, 89, 11, 24, 0, 0, 0,
    ]
    private static let long: [UInt8] = Array(
        Data(
            base64Encoded: """
                H4sIAAAAAAACA22du85tvW1F+zyF4TqFJFISmbdJAJcJEAeujLx7xN3kcMzlzvj060hzL12GePvnX//rH//5H3/7+1//7S/jX//y\
                1//573/8+9//Vv/nf//ln///p/nnn2b70/rzT97+ZH/+KdufvHV42t/2n39bu/3t/Pk36//dbSPp/178+bfTh5l//i367GYTZQ7I\
                0nVZ+G+bNNP7vzqtS9DHO7tA2Wc6u0TQaJ4uIP7bJtMK/LtNKFsYc3b58SU0rRxaraaVO/7b/hlF/3dX02qvPubVtNq3z3c1rQ60\
                Wk2rw/+2aXX57zatLsfcPyvM15pWCa2saZXQ2fp3NfAjWf+wBn5h61/WxOdhu3/S0MtO/zM+TGuCTcNXbYEVgZE3yebGevK+Fg9E\
                874YD1ayd9UuNgHvqgX2D8d6xNbjfUEOqOZ9RU5seN6X5Br4t5tqywZG3lRbPvq89+i7AVTbTbV1+F831dbFv72tbyYY+W6qreRG\
                31Qzqrb7Zj+h+b7YqvBv953M8HvvvpU5vpYz+k4H1U5TzS6+1NNUs8B3fppqllglx/s+ijV2mmrOFXqaam5Y36efko7d4TTV/GBv\
                OU01v9iZbj8BuK3dptoe2BNvU21PbKi3HwKG3fj2U8Cxld+m2uY5cE8/Q/hfN9V28t/u14vBkWc/gjDvGP1yAtWiqXY2NI/VTzD8\
                YtFUO4HfO5pqd+Brid0PQKgWTbVr+FKjH58b33n08/NilURT7SbWWI5+bYNq2VSLhfWdq5/OvBI21eJgb8mmWgR2ptz9cIdq2VR7\
                88J/3VRLx56a0e8G2JGzqZYxeJ/lhZZX2jFxu5AecP1wjGAOXEAOZvD+E9xQoMAc/RIyqeDrszdYxh76ReRdNTiGfhWZ53AW/TIy\
                g2QANFgKB6ADIx8AENYmIoAR1iUlABNWEhQ6KUwTVuiwMM2JC5NXOhJDR4ZpSWjo1DB9HnLSwLWQSnZ2mG+1sgegVmAHnp0g5p7Y\
                wWeHiLkNJ8DsHDHlBJkdJeYO6aEreXQMXcljMouu5BEdDFdknsCzk8W88lsALq7z1wReXPkeABg3+UUBMUK+SUDGu4uzh65kyLoA\
                aOQQ+E7c57k2ARvJG+AEbqTsDx043jbKHaYjxxqyR3XoWONylwN26D5J8DDutECPKXs14KOkRIOOH0vOCwCIEMgEgiw5swAhNjkG\
                YIjxzJwAEbvUoaPIgygq2WFkufG36DiynHeG2YHk4Qq/h44ka/POMg9QTr7JjiVr8840O5isdxXFGDqarMM72+xwst7qhw4dT9bV\
                16mu5N3cHzqirMs76+yQst4Gwll0JYN35tlBZYXskx1VVvLOPjusrNzcqzuuvJOZu30Hlke/PC8u8FhOnA4tNlJ6uCBoGUOH5Kcs\
                Z9ExeZHZZoeXR+FUsuOLLTLj7ABjNvlrdoQxc3mz7Epa8IvqGGPCzLODzLsE8avuKGNOZp8dZmwbV1bHGdt8M5iJJwe5T3akscM3\
                i9mh5t3UuMN0rLHLN5PZwebdgbjLdbSxkH2yw827wXCn7XhjwTej2QHnXSe523fEedA5+A7Nh2g+RXfGeQAjPfTn6BEYw+qM45Nv\
                dqszTt158bQ88IxDJVdnnHcPM/bQn3IW3yxXZxy3dTiL/pxjfDNdnXHcpzzq41Wfb7arM8674mBdrM44vvlmvDrj+L5Ym6szjh+u\
                7tUZx8/Z7KEreflmvjrj+N2Ls8DDGN/sF4wjIeYR2EcixELSlcxFg0NnHE+xV8BQMibNHZ1xtpw4qzPOfpjNHvpD2RRbTWec/VY7\
                Z5Hd1iOWos447x+gkp1xtomdqjPOtuCv2RlnO61ky/jYyC+qM87e8k12xnl3IH7VnXHeDYbrojPOfjDIWXQlL+2TqzPOvrxPrs44\
                Owb3h844+x28GENnnP3ogba7rmRu7nKdcd4QqWRnnDM2d9rOOHWucgz9+fYRC2eBB9zB86IzzhHGWZ1xjmkP/RnXZAydceqVGLPo\
                jHNcdOiMc7Yo2RnnbPktOuOcI79mZ5zaaDmLruSVL6ozztFvsjPOO7H4VXfGqUsQxtAZ56SsrM44b2VybXbGuUNWd2ecO2R/6Izz\
                liZ3mM44d8oe1RnnLtnlOuNc3Sc741yTnbYzzjXZqzvjXJfdvjPO3XJedMa58qq2OuM8eJAeupJHTr0LM4Ocm51x7pWTtzPO1bO7\
                M84NOf0749yU+0NnnBhyA+mME0PuMJ1xQiz3qzNOTLlHdcaJJTexzjix5C7XGSdMboMw2uh9EmYblxspDDdb7rQw3Wy5FcN4c+Re\
                3RknruyTnXHiyt2+M06E0EFnnAjhi844kSQUG3QgoQtJZ5wcR3poSuYkZ1lnnJwkNeuMU28k8AbpjJNi4bfOOGnkTRswhpFYrTNO\
                OpnXOuPkJjVbZ5wU7rYJbxySu3XGyUv2t844efl6YJ1xMvj+YJ1xMsUvpzNOJt9ADHacMfiMYjDkjMmXGIMlpwCCrkmDvklUE7ac\
                YXxSMhhzhvFVymDNGc6HLYM5511UcG4Y7DlDjh6DQefRkPQBTU/KOKDp3TIXaBp8ajQYdYa8VhqsOiP54Gkw67wfRrzGDC347Gr0\
                HJt8uTVYdt4ZRE2Nhlu+HxtsO9P4BG0w7kznK7bBujOdD+EG886Ut3SDfWcePscbPMreNZJ7D5zKyumMznjQNGhXMIem4k5gDk2T\
                1g3rBFQ7PbfyjkDvTk0bi3UGei1oprE96DpITbdYxKUPmMSN9ibbsIk7TVa2YRTftHrZhpPjEU03/BwPbW+2oeml+c42NA1aAG1D\
                06AR0c6gvyU17Tw036nNb70D0SzzGcbRiei1oEHVOhLN8raDHgeeBqauo3A1MFqG7cDXwGlctgNng037tHUumk8f7oUdjMpJlZpe\
                aHppaLcLTYO2ervQNGnutwtNkx4D1uloujzIWcej6dOkj66pLx0HvHJXyFzgwWGiR9CFQ879gA/Hlt8l4MSx6UlinZKmH/k+OiZN\
                v/RnsYCm4n5gAU2DXjUW0DRlvXRUmnvQt8cCzs5T1m2HpXKHpqadll4L2T86Ls1t9HOyhGeMyz6WcI3Z9LaypG+M7KcJ55hDny/r\
                zDTrNZLjgKZBzzNLaJo8X3yIDzm9yOH/dkZIHwt+PPTBc3jAncXz1uECd4xegA4fuCMuCQ4nuOP0Q3R4wdVzHMcR9CiiXzz84B79\
                0LEejnBHfDF90jWf9zGHK9xJeoM6fOHKVRVzgTPcnfRHdXjDXbmfOtzhrtEj1sFR13hPdnDUdfrkOjiqXCAYrDAYrUBNwVH3khsc\
                HHWDfskOjrpBfvFFZy56Rjs4KuSMcnBUTJc+4M+1TMbRNQ2bMpeE0xi50sFRIf7pDo6KTb51cFQcesg7OCouOdvBURH00Xd6yAnu\
                OzjqzYTfOjgqBx8dnE5yk3EKTi+5xacPp5ucREo4/eScDzAOjioTEMYBjsqzJDwH8TmX0SIOjkpxXXBwVAbjVRwclcknMYe73BiM\
                mHH4y43JhzmHw9wQjnJ4zA1z6QPOhy5RQ/CZG1vCjuA0N47ELcFrbshTqcNtblyNnOreXiMk9AqOc+XmxLkk/CAl+Auuc1Ojx+A7\
                97CR3zqc5x6ecL3Ae64uypgL3OfKPg494D83xZ3B4UD3DjruH/Cge5sy96Ajbp3cx+BD9z527oVwons/DDWFF90bCPdkuNGtxTBK\
                hx/dMhp4vHPUWs4wTr+Ml5UzqnPUWmdLHwjSu1vGEfBjdZkLfGWTJjfvHFWxftS0c9SqsDj2AXfZxTBeD/jLGs2PHnCYdYYRe+eo\
                ZeLi4J2jykDJb71z1M8tl+NA7GMwjNo7R63ibOjROaoCJKlp56h3kaJZ2jtHrXc/4x7UOWrVhou5dI5a7+zkXpjwQhYTvSfckN/h\
                wT7gh3zpKOAJR+QYElGKkNIcElQqUaWMKx3wRZ7ax4K/M8exO0etbZzL7hy1tlOPPZBOQDTdg/Hy/F1256i1L3/b3Tlq7eD3sQe8\
                u5Pf2O4cVaG4EquLYN3Jb31POnhzvewJD2/jmtsTLt7OdbuRf+DI2t/IQfCuyZt9dE2LKzmOgKs597HdOWqd5F64O0dV/DI17Ry1\
                7uSevBdioBf39d05al3j2bA7R63rPF/2gt+8nFF7wXH+HOkDnvP3yjgCvvVX5tI1vckze9tg0Dc17Ry1YvLusDtHrTDeP7YhtNx5\
                h9mdo1Zs3oN256gVcpfanaNWXN7HtiFfRvBOtw3hCMl74e4ctXLwbrk7R1WkPDV1RiTwjrsRcJTGe/JGxFE679obIUe5eV/fiDlK\
                ufNvBB1lkBs2oo4ylyQO6E7gY5BfducoG1MSH3SOMuWo3TnK3r4vfXSX+uGSAaFzlI0tSRA2Aj2O5kFApIew6d4M9ZBsCEiHUKZ3\
                jgPBHlNyIiApwlxk9Y28CFN4fyM1wnS+GWxkR6iHXIwDCRLKsoq5dI6y8k2BHp2jbMobyu4cZQ+juX8cpJiYfMvZB/lyFt+D9kEE\
                jfFNaV+G0Mh+ehFDc/i2tTtH2TvGuK93jno3fr6xbQQkve2B5wsikjQkaSMkyeaVPrqm75+RcSBzhw+ZS9f0HbfUA2FJJu+nG3FJ\
                dvkGuxmYFHzH3YxMSr4Fb4Qm+eR78tbYJGrK4CTju/ZmdJLzbXwjPOldP7jmEJ/0+J/rFgFKLu/8GxFKFaPAPrqm7/4ueVm6pu8m\
                yX0MQUrvTsO9EFFKW2wnG2FKb5/nnow4pbfjcF9HoFJZrDgXxHwFbUlnSJ4ZZpoZiPqaS/pA2NeiXex0jiovO8zldI76xZYhb0zn\
                KDti4zsDydku7YSnc1T5dTnH0TV9G//hXLqmd9DmeTpHVXIeyd6D9D1G2+vpHGXvvs4cPhOxdJs24DMZTEc78ukcZVds0adzlN2k\
                PftMxNMN2sQPcrq92ziz+iCvWxht86dzVGU0oqadoyoG09kHsiId+hmczlH2flmcDadzlEXS3+F0jrKUM+p0jrKcIX10TdN0HAhS\
                dJO5IEpR9egcVWmgqGnnqHe8yO/SOcoy6Q9zOke9n02+D0O+qUm/nNM5yof49pzOUV65DNhHj7Ebul46R3mZTjiXRFimrFsfzJ1F\
                TTtH1VMf94/OUT4X/baOI/rTZB9zhH86/cdO5yifup92jvJ56cd2Okf5DNnXO0f5TPrTnc5R5R7E86VzlKtf3+kc5cvknOsc5fUc\
                iHF0jvIl5+3pHOXr0s/xbMTUiq/k2ciONuhveTpHucn942yG1dLv82zE1TrvQadzVGVpo6ado8qSxG+9c5RXGCPG0TnKaxPCXJBr\
                rh5ZoAfSzen99CDj3JsM9w8mnXPekw/yzlUQL+fSNXW5rx9kn3Pxkz6do+p5nXty5yjfk/7a5yJeWfjlXAQsO/3GT+co3/LWdzpH\
                1X1e+uiabuG50zmqchrIXLqm7+ZEPTpHVT5Aato5yo/w7ekc5W+34G/bOcrfVylpCbumb278xgJR4ML7p3OU38EoixOIA5+SmjEQ\
                CG6M9TiBSHB5/zidoyqJIjXtHOX3SnrKzlF+g3Evp3OUh7wHnc5RdePnXtg5ykMCeE7nKH/3Qu7JnaM85H3sdI7yh9k8GzpHvd2D\
                73R3SOZJ5p5EzoeU98I7JMAe47jI+vAuW5jLRdqHCsRAJknkfdD304vEDxmMULvI/JDJd9zbOWqPyTi52znqbYV8T76doypdp+Tz\
                RELPzXft2zlqj8OYwds5ag95X78TaQuSkYu3c9SeEvx4JxIXLMZP3onMBWJvuBOpCzajOG/nqF3vlkxxOpjjlJp2jvolSGAfXdN3\
                Y2O+UebLXrQDXaSCeOcgM54iF4T6TFwkg1h3SB9d0xVbxhFI5pAyl66piX3uIiGESaTzZUYIp53wMiXEZrz1RU4IE3vlRVIIC0Z9\
                X2SFcAkcv0gL4ZOx5xd5IVzstxeJId5limsOmSHewc91i9QQLnH4F7khXOzZF8kh3vbAPQjZIfaiXf0iPcT7YbgXOjJtiH3/OlNt\
                MDPC7Ry13xHFfb1z1N7J/Ay3c9Q+4u9wO0dtzRJxO0fVk6P00TV9xMNxdI7aR/w/bueo/W5O1KNz1L6SdONu5Eue8rt0jtpX/GFu\
                56hdoRqcSzJBCb+xM5i3mZp2jtpX/IPuQRKTIeulc9TbG2TNdY7adYhBj85RO8Rn4naO2nFk/+gctSNkD+octSNlH+sctVP8x27n\
                qEp2TU2RyLsM3uxjIa2L7OtI553iT3eR0TtTzpfL3DByRl0kh1lyznWOOkP8Cy+ze285b5Hgexw5s5Hje+i5jzTfQ/wtLzJ9zyn3\
                DyT7niZ3mM5RZ7rcgzpHHfU/vZ2jzrxyHwtk3Em503WOOu8ezTUXyLkj/rg3B9OqU9POUeWDxP2jc9R5FyXuQZ2jzhL/5Ns56ryN\
                jnth56hjkuztdo46lbOKfVwkCBL26Bz1YE74pXNU5RceTEUvueiZjb5z1HHxX4/OUceNPBcDuYycTBgDyYwOuTI6Rx0Xn4noHHU8\
                ybfROer3MMFxdE3f0j+cS9d0S3xDdI46W3g/JlL8X74ZROeos5PvDtE56hyJ94jOUeWSx3z9naPOkUSZ0TnqnM13mJjIESXxLzGR\
                JCr5HhSTWaKuFD0YrHpATTtHvWHwbSsWKidsvo9F56jzziycDdE56rxdC+dLoP6QxkcFahC9cUkfXdOwlHF0TWNvmUvXNCReLDpH\
                VakIato56uSQYhSdo+oRTupRIPuWxM+FIf3W5ntydI46qYUpOkedcsxgHz1v1JB4wugcVVm+uOY6R91hfKOPzlEVtEhNO0e9T522\
                gugcVckpuQd1jrpz0GYRnaPuXLR7ROeoO8VnIjpHvSs/7S/hyGp2acMJR1qzpB0oHHnNJP429mBREmraOeqWuz776JqWOzbG0Tnq\
                LolHjs5R79pI+1x0jromCdpjo4LKop0wOkdVbiH+tp2jbl0dOJeuqV3aPKNzVFVyoaadox7+0/YanaNuRUBgHAf54pw24OgcdSuL\
                OvRA7j2N3w8k3/OkPTuQfW9P2sQD6fe20a4eyL+3JZ9BIAHfFvt+IAPfQz7uyUjB9/CE+zpy8B3J7xBIwveufTxfkIXvyFtfMA3f\
                NekDefhSx4FEfCNkLsjEt0QPpOK74ocSyMV3Jf9HIBnfwxf+tp2jim/4faBu0rtb8RtD6aQQn4lA9aS38/FbRwGl991KCSXUIAz6\
                KQXLKEl+mOgcVYWWqGnnqFtnNvtggkP6bUXnqJuSLyc6Rz1Yof9YIDPf0P0UqfnGoh9bIDffkPxBgeR87zDl2YDsfCN4vuSQ6lSs\
                T9U56iFASB891WH5WqPWU+eod32XYlGdo97lXKpNDeSN1HJVnaPeXKXe1UDmyCUFswZSR7pU3Ooc9S7FUrKrc1SV9JKaXyj6lVI0\
                rHPUu9DSDzY7R73rKu+F2TnqXUbpj5udo95Vk2s/O0e9iyT9grNzVIW/BMfRNfVF/+ScqEHqvK/nGqyDRk0XMnJKfrpcSMk56K+d\
                Czk5J/klO0e9yxf9xrNzVKjPRHaOehcnlz66po+iZRxd0zOnzKVreiR/YXaOquJx1LRzVFQgF/vomp5gXEF2jnqXDXJ2do56VwnG\
                N6Qh06nwfhpTnTLOIjtHxZXkltk5KiqijHPpmv62KRTcG6y4R007R9VByP2jc9Q7XBn/kp2j3oJbUviva5qTcTjZOSo06Wl2jnrH\
                HuOBsnPUO9T4Ppado96Rxbik7Bz1PkG+0+UeLFNITTdyyLpLHwtZZhmnlZ2jckgy3OwclZV4lPUUN1PVUtPOUW8TT6nJ2DPJTkkM\
                nJ2jskJXOJeu6Uy+J2fnqKrtSE07R+WSJMnZOSqrLCDG0TkqCxoxl4PUvMm4xjzIzSs+E3mQnNcYX5mdo952QntDdo56mwXjPLNz\
                1NssaPfIzlFVEJOado7KKoXCPrqmjzy5r3eOeouUdqDsHFWphnm+dI5KLaCRnaPe8tnSx0W+4i3j6Jru4zIX5DwO2ucyBquIUtNA\
                1mNJMJ+do7Ie+jGOzlHvg6K9MjtHvc+FceLZOSo12X52jno/NePVs3PU+yFpv83OUe9nYtx8do56PwLtyNk5qkqvUtPOUVlXafbR\
                NX3XPu5BnaPe5GlXz0Qy6WA+g0SB2hT7fqJGbSXSYx9d05SCFIlKtfWkxLkkklYPLVer9WqlYi1L1o710c9i+ushdWtZuPYdmVK6\
                lrVr63mStWeRuq++Aylgi+R9451pUsMW6fsqxFnK2A4m7T5DKtkOpu2WQi41Rin7q5WBWRp4cQ3UPJgAnCvptYHOS4rb1FzRJriq\
                X5vNVOJS2G0god8vdEX6gc4mBX9KMyYl52732kBnC+6ZpatUTxadmSLdpQhSaY82zlPgtWGa9MOzpH4ftAmeSPXIglTpWopwMFn6\
                Xkf7gc7br44nmJb96ryg85ZiWfUtSBFq0Zlp089K+b2Q8G9U2Rypd82C11JArL4ppoqf8h0i7d+4U79nJP4bZZKUfi6TzpusL2Ni\
                +uuyTpH+b1TdEurjQ2p5i85IAVjvR7L/IAngqM+Q40EawFHJS6S0OGuLZ8q+ilSAI5fuz0gGOB5fyj6PdIAPjZeWOofO704k5w5S\
                q/8OJ+qD5OpTae21Qcr6etuUflgI4FwZz9ZSADKvzWIAI7WKO1LXT1OdkWh9ViJk6QclAaYWrhxItj7L50jmBZ0rnwP1QcL1qiwv\
                OiPl+lxazHMg6fqsxHYcD9Ku/8q3c15IvD5tDVnvSL0+PwqcDiRffyKb7D+HpRdCSq2Ow+IL48h+eFh+QYu+DiRhf5cE3Z+Rhn1W\
                8hXpZ7HUw5TzAqnYf7m2OS8kY5/bXM4vpGOf+gZZBRHR5l7tBzpvLQ48kJR9vq1F5wWdj0uZ4oHE7JXhWXQOlrrQgskDydlnOSpw\
                PMFyF0tKNw8kaJ93D/kOkaK9chuLzkjSPm+arAukaZ8xpZz1QKL2GXZlnSJV+wwtrD2QrH1G6P0Z6drL1CL7DxK2V6y+7GNI2T5T\
                i40PJG2vpyrZV5OlRVL3ZyRuf1iwZJ9PlhfRAuwDydtXecLIvFAO4y0Cnl8TPLjUsvbaoMzI1KL0EzxYefI4ngkefBOnrbDOWJZF\
                ocXxtUG5kSV2yzqH0cZo/XxtLgus0IZaZzXaXFpi66hGm6Q9t85zlmqR73lOlnNx2pZfExZ0ObRQ170AbYJ27tcGOvugtbzuDmgj\
                NvfXBjr7puW+7hdoc2n/f22gsye9COoOgkI0i74ITx7ovMWjoe4paHPoF1ERb2gT9K6ouwyK2kz6aFTJL7QxenrUfQdt9BycSwro\
                hPbDEjrjYzzQ+S7TeSVL8ag+4MG3LOS+McGD66b+XuDBt4G7/O7gwcpPJN8PeHC9M0W+Q/DgO031ewYPrqqwK/1A51y6vsCDqwKc\
                ZF7QOa+ud2fBIvEke21Ysmjq/gMeLCur7GPgQavAHc4LPGgjruyr4EGbH/szeNDejyz7PHiw7CVyXoAH7V1c5NwBD1a4gJxf4EFT\
                L8i657Jok56n4MHKHCfjAQ9WZjiZF3iwMr+JPpslolx13iwSdUx+L/CgWcj9Z4IH60Yi3w94sI4v+Q7Bg+Zbv2eW4PIr98PJIlz1\
                jMTxsAxXBd1yXizEtT1kvbMU19b782Qxrrf9yP7Dclxnyn1+siBXxQzIvFiS6whfTCnKFbo/S1muKbwzWZjr2pbzgqW57hb+mizO\
                dWPJ+QUeNPXtr5J/aLNS+4HOsU3HA53faarzgs5PQdEHPGi59L4BHrRKBCn9QOe8U373YAm0lPeEyYJd7yyQ75Alu4a+b0wW7Rpn\
                y7pg2a7ypJfxoBhandQyr5Sia7LewYPv9NL7M3jQnxiy/4AHfY2QfQw86JXwn/MCD1Y+f9lXwYO+Qvdn8KD/Dma2gc625P1wgge9\
                4tlkXiw7d+U9cw0WnlMeXOBB9+Xaz2IBO0bPFdeizZX33gUerDxo1GeBB33r+/MCD1b+QZN+oHMFMMl4QorqHZkXdD5T3ucXeLBu\
                2KIzeNDfPr+kH+h8gpGfrw10rmI+nNdkoT9jFOprA52vxLIW06NNMCL2tYHOMcW+s8CDXsXPZV7Quco8Ux/woIdECtf7AcoPDrF/\
                LfCgpzFqud4Y0GaLPW6BBz2DEdT1DoFih3oOLvDgHja0n8uiiVvHw8KKN3VeLK04xH66wIN7SpT7a4PyipXkQPpBgcV3UMvvDh6s\
                5S7fD3iwcrbIdwgefNdD/Z7Bg7tQT/qBzg/AZH2BB9+N5Mg6BQ9u2+IPsMCD2yRDQ13iUIJyiH/CAg/uOsA4Hmcpyy3+Egs8uP1u\
                2VfBg3ur/8YCD74vdcs+Dx6s3CRyXoAH975bzh3wYBGInF/gwY/sIq8NdD77ox/ofD7GAx6s/CAyL/Dg21lUH/BgTV10Bg/u+/F7\
                gQcrfYv87pvFQz++H/Dgjq3fIXhwx8f3DB7cOXRdgAd/xzLHAx58iKbrFDy482O9gwffgHXfAA+e8bH/gAd/mTBkPCgoOj72Q/Dg\
                Ka8G6gMePF/7M3jwVPFa6YfFWj/Oi8tyrUPPHfDgWR/nF3jwaM6sendEm4/zFDx43j+l44HO9nG+gwdPoTD1AQ/+ckJQZ/BgZWaV\
                3ws8ePzj/gMePH70HgUePP5xHwMPVt4G0Rk8ePbH/TCkPK7eM8GDZ3/cV8GD50y994IHz9f9GTx43v9k/wEPnvNxnwcPnioGwXmB\
                B8/94Avw4LlX92fw4LkfvAMerAwHcl6ABx/JKH+BB09c4ThjgWfNBFnvzWizjvbDgsTKp8Yyz3mFcw08eIfysoEH71A/GQMPViYB\
                k35QmniEvAMYePBOfU8w8ODDL3mXMPDg/XjfMPDg+wzlncTAg3fpe4ux9PMyebcxFn9e+v5jUv5ZcsS+NiwAre9RJiWgXd61jEWg\
                Td/HjGWgLeWdzVgI2vW9zlgKuu690s9iUWp5PzSWg36QxnPHWBB663umgQfvh5+MgQfv1vdVAw9W8JmOBzoffe818OCtos3Ux1hw\
                W9+fzVhye8o7toEH79X3cAMP3nvkXd3Ag/fq+7yBB6t8hOgMHryh9gIDD95KXCnjgc6p9gsDD94KO6I+4MGKFBedwYPvxiZ2GQMP\
                VsZG2cfAgxUHIfsheDCG2pvMWeJc/WTMWeRc7V8GHqxapnJegAdjqj3OwINRxaypD3gwPuyDBh6MKsEp/UDnpfZKAw+GDbF7Gngw\
                TO2nBh6sIE/RGTwYpvZcAw9GhSDIeKCzq33ZNkvKH7FT25Gi8vo9H5aVX2I3N/BgbLW/G3gwKt0l5wUe/IUHUR/wYBz1kzHw4LuF\
                i3+CgQcrSln2MfBgXPWXMPBgVHwW9QEPxof/hoEH491FZZ8HD0aoP4mBByO2+KUYeDBC/VsMPBhai+a1gc6p/jYGHqwISR0PdE71\
                /zHwYI6p+oAHfzG/1Bk8mOPq7wUezKH+UQYezHo94LzAgznVX8vAgznVT8bAg1VxUtYFeDCrVp+MJ9BG/dkMPPiOQV3v4MH88K8z\
                8GC+w0H2H/Bg1UOSfQw8mL/yPGwDnV39Dw08mP6xP4MH09Uf0sCD9awl5wV4MLf6Zxp4sMwXPL8cPJhaYa1szmizQvuBzkf9Vx08\
                WPU2OC8HD5bZnPo4eDCv+sk4ePBdwsW/18GDlTffZTzQOdTf2MGD+Q4wfocOHswP/2cHD+bbFJb0A51T/bEdPJj1Y3Be4MFM9Q93\
                lLGuZ1HRGYWsx1B/dUcp6zGu3OcdxazHVP95RznrUbcd6oOC1rWFi84oaT3KiVz66cWC39QlvsBR1roqiPDccRS2HkvjHRylrYfW\
                DX1toLNp/IWjvPUvBlPGA51N40EcJa7HE1X0QZHr8RGf4ihzPfwKvzsKXf9iJzkelLoe2+Q9wVHsup5/5DtEueux9X3DUfB6HI0n\
                cpS8rmySsr5Q9HocjW9ylL0eFTNCfVD4elyNt3KUvh73yHuUo/j1uBr/5Sh/Pd41QfZDFMAeofFojhLYFR4nOqMI9kNGiY9zlMEe\
                afJ+6A6dU+P13KFz+dxSn86D6yt+0DsPrgry034W2mg8o3ceXBUEIPPqPLjKKVj06Ty4yklQdO48uMppSH6vzoMVDiLv4d55cJVR\
                Ub6fzoNVd0Xe5/1AZ9N4WD/Q2VzsBX6gs2l8rh/o/C4gsk4PdHaNF/YDnV39ZPxAZ9f4ZT/QeS+x7/iBzlvjqf1A533F3uQXOn/E\
                d/uFzmXckn6g89F4c7/QuRIOc14XOl+Nf/cLna++i/qFzlfj8f1C55hbxwOdQ/MD+IXOD7xFn4DOqfkKPKBzmthzPaBzav4ED+j8\
                kFG+n86Dqy4u8h12HlxlzhWdOw/W7UfyS3jnwVUbmayvzoOvjea78M6Dr80VfwDvPLjWR/4N7zz42pj4J3jnwddG84F458HXJsVf\
                whM6m+Yn8YTOpv4bntDZNF+KJ3Qu06iMBzq75m/xhM5vk+D5tQd03sqDe0DnbR/9QOct2W3Kxw1tUua1B3Q+kmmn/ODQRnXeAzof\
                yfpTvnK9TT0ty3ig85UMRK8NdK5UvtRnQmfNhvTaQOcwWRd7QueQzEwVzo02Ket0T+ickiWq/PvQRveNDR5cKRmrygewtbExZR/b\
                4MEqGrJkXok2V/bVDR60qfvzBg9aWT2kn4U2klXstTG0STl3NniwXpZ5fm3woH34yWzwoC3Jtla+jb2Nzavjgc4mmd/q8ESbK/eE\
                DR40zUL32kDnB0Dye4EH33Dk/rPBg1YZVTkv8KBtyc5X/phoo/e6DR60LZkCy2ezt6lccDIe6Hwka+FrA51PyL13gwft6v15gwff\
                1Vju4Rs8aFeyOb420DmGcMEGD1pIZsl6kUYb5ZQNHrSULJfli4o2Jty0wYPvCxP+2uDBiruR8ws86B88uMGDXjH70s9CG8lE+tp0\
                nb2ikDgv8KBPyYpa/rNoo9y9wYO+JENr+diijcs7wAYP+pJssa9N17liYeQ7BA+66fvGBg+6HXkn2eDBt7XIe8sGD7ovebfZ4EF3\
                yehbfsFoo+9IGzz4CFbeozZ48PG8vGtt8ODjcHkf2+DBx8/yzrbBg65Zl6teCdqEvPtt8OBjSHk/3ODBx37yDrnBg1XDWc4v8KB/\
                xA9u8OBjpKv9QOc4qeOBzilZuguz0cbk3XiDB9/9Xu8b4MFfAQ7pp+v8brTyHr7Bg7sSvXFe4MF3N5X3+Q0eLHdR0Rk8WLEesi7A\
                g7tcw2Q8Xed3wIn9YoMHd72rUx/w4NZs969N1/ldAcQus8GD794g9p0NHqwYDdkPwYPvnBZ70wYPlslOdAYPVgpA2efBg+UKIecF\
                ePCdMWKP2+DBdzaIXe+AB/eHffCAB3cV8JN+oPORqhGvDXQ+KXbPAx7cVypYlN892qgd9oAH39oWe+4BD1bNY5fxQOeQyh719IY2\
                IXbqAx7cWmXktYHOucVufsCD7zsQ+/sBD77fT+z4BzxYbjJc7wc8eIb6FRzw4JlSCaZiDtDGxc/hgAcrTmHJvLrOZ03xuzjgwbPU\
                f+OAB8+64gdywIPvlin+JAc8eMzFL+WAB49J5aCKk+htXM/BAx48LlWMXhvo/A5vHQ903lJR6bWBzm9vEX3Ag0erO7020Pl9iPJ7\
                gQfPkUpTFduBNke/H/DgOVL1quI/epurfl8HPHiuVOB6baDzTV1f4METUg3stYHO5YhGfcCDb+Jyfz7gwXf70f0HPHhSqqRVzAra\
                pO6H4MFHeuJ/eMCDd3zsz+DBO6R63GvTdb4VfSbjCbSRSnavTaJN6vkFHvyoqldxNmiz9TwFD94lFf4qFqe3sSXn+wEPXpNqg68N\
                dDb1yz3gwetS+fC1gc5ViFzGA51dqjC+NtB5L7mPHfBg+caLzuDB+y6Msi7AgxXaLusLPHifYLJOwYM/V3TqAx6sdIyiM3jwXqna\
                WaY1tAm5zx/w4M+nXeYFnasYEPUBD16tZlpxUb1NLuGdAx4sN3w5L8CDN0P464AHY0iV19dmo42+ix7wYAypOFtxWr1NRanLeAJt\
                pPptxXKhTQovH/BguVSIzuDBqBur9LPQRqoCvzZd56iEVpwXeDBMKhRXelO00feNAx4Ml2rJFX+GNlveWw54MFwqN1fxyd5mL3n/\
                OeDB0CrSrw10ftAm+w94MI5UtH5toHPFy3Be4ME4Ul27YuZ6m6txbQc8GFcqfZe5HW1S3g8PeDBCqo6/NtA5jrxnXvBgfMQPXvBg\
                vJ9U+4HOKdXYK86vtakyHJzXBQ/mkMrwFQuINvr+fMGDdSqb9HPRxuQ9/IIHsxwdZF5d53fbkPf5Cx7MpfGwFzyYdaJKP13ntCHx\
                uRc8+H4usV9c8GDalXjhCx5M17jjCx58g5H45QsefKtU7DsXPJh7Sjz1BQ/mdrE3XfBg1QISncGDrxOxf13wYL6LHs+LCx7MKjLO\
                eYEHq1oPz68LHswPP5kLHsybQ/uBzhXgJOOBzm/T1HlB5woBpz7gwcroLTqDB7O2TOkHOmdK/oTbedDGMLEv386Dr82RfA6386BV\
                OVXRufPga2OSX+J2Hnxtrtjfb+fBdxAMyXdxOw9a1Y6R9d558LXR/Bu386ANm+KfcDsPvjYu+UCuQ2cL8Ze4Dp19Sn6S69DZ1X/j\
                OnT2kHwp16HzXuJPch06V9IZmRd0Lr8U6rOh80c+mbuh8ztOtR/ofFLHs6HzW0wyrw2dH8yIPhs6h+btuRs6V/lW6Qc6l0lTxgOd\
                y+wg84LO6fodHuicH99z50GrQkyyLjoPlhuIrq/Og79VIeu086D9XN6oT+dBqySyonPnQavki7L/dB6sCoS6j3UetPl7pWabRJvU\
                fbXzoFVQuOh8obMd3ecvdLbU8+JC58qFwnld6OxXz68LnT/qLt0LnbfreXqh8756Ll/ofKae7xc6l4sQ9QnofD7uGwGd30VGfq+A\
                zm9xy+8e0PndAeT7CegcS+9jAZ1D/WRuQOdIvR8GdC4/WBkPdH7EKOu086BV0JGs986DBTt6f+48aBU4IftP50Fblbmd4+k8aFU2\
                R/bDzoNWDseyr3YetHJyFZ07D/6qtck+33nQyplPzovOg1YOZHLuJHR+653nVwzo/JFfNAZ0fjPXfqBz5Q51toHOewjnxoDOlfLq\
                sA103uonEwM6nyn8HgM6ny3vADGg8wl5T4gBnR8E8DuMCZ2vvm/EhM435Z0kJnQOk/eWmNC5Hi84rwmd3/nO9R4TOqfmJY4JnfPK\
                e1R0HrR3gZZ3reg8+NpseR+LzoNWFxfuq9F50Gzqe110HqxEDfLuF50HzX7RrmzTdX4LTN4ho/Pga3DkPTM6D5p9xA9G58HXxpf2\
                A53tpo4HOvvcOi/o7FvejcOgs+v7cxh0rnzv0g90Lh9Ojgc8aA9h5fsBD1b5L/kOwYPlhiY6gwetSh1KP9C5DCoyHuhcaQJlXtD5\
                feCy3sGDFmpPCfCgRYpdJsCDVm6wHA940PKInSjAg29xib0pwINVAlR0Bg/6uGL/CvCgV/UNGU+gzRZ7XIAHfYbY9QI86B/2wQAP\
                +i+YgW0W2qTYKwM8+POZ5LzAg25X7KcBHnwnpeoMHnR3secGeLAiqeR3Bw9WRJ98P+BB31vs1AEeLJOC6Awe9Er+KP1A5wob5XjA\
                gz8E4bzAg35d/AECPOhX/WQCPPguAOKfEOBBfz+O7GPgwbetir9EgAe9TOvUBzxYEc6iM3iw8lrLPg8e3MPFnyTAg5VVVs4d8OAu\
                YKY+4ME99V00wIP7lxGEbbrOe9nHeAJtTui8us7bPvQBD5b/oegMHtxvo5ffCzz4MFf8owI8WJli5PsBD25P8dcK8ODe6icT4MGy\
                rMu6AA++k0nXF3hwHxd/tgAPvlnpegcPVkVS0Rk8uO/H/gMerNBb2cfAg/tdLmQ/BA/ut1BkXwUP7vzYn8GDP5Om9AOdM/S8AA+e\
                scQ/M8CDZ+j5leDB81F/MMGDp7IqST8Lba74ryZ48Cw93xM8eH5F5thmo436ySR48BQ5ST8XbfT+k+DB8oI9Mi/o7C73sQQPVsYH\
                0Rk8eLbeDxM8ePYWf+wED/5SnXFe4MFzTPzDEzx4Pu7PCR48d4q/eoIHz3W5zyd4sMrrLZkXdA7liwQPnlB//gQPnsr9KP1A53rr\
                5njAg4/0hL8SPHjHlHiHBA/eDz+ZBA/eka79dJ3vVD5N8OAty6zMq+tcW6/oAx68S+NTEjx4l/J7ggevLYmXSfBgRS7J9wMevD4k\
                fifBg2/h6PcMHnyfqsQTJXjw7invLQkevOVmJfOCzlvffxI8eI/GWyV48NYCk36gc9Wg4XjAg/fq+1iCB+9NiUdL8OAN9ZNJ8OB9\
                l1zZ58GD9Rwu5wV48KZLvF6CB2+dp9QHPBgf8YMJHoyh76sJHny7vMQzJniwSm7KvMCDUa+F1Ac8GB/vzwkefFumxHsmeDBWynt4\
                ggej0jrKvBJt9H0+wYPhGg+b4MF4YCnrAjz4BizxuQkefBwu9osED0aVDKI+4MHHq7pvgAcfQ0r8coIH3ycv9p0ED/58zGRe0LlK\
                ZFAf8GCExncnePCxhNi/EjwYlRiU4wEPvju32OMSPPjuwRL/nuDB/Ki7lODBd1/c2s9Fm9g6nq5zeWfqvBJt1H6a4MF3/9D7Bngw\
                y6Ai/Sy0CcmfkODBd3aKfTnBg1k3aOoDHnxnjH7P4MHyEJJ1AR78oYyMBzrvJfkuEjxY0ZWy3sGDlRFMdAYPViin7D/gwXJjlH0M\
                PJhl2uK8wIPl5iD7KngwP/w3Ejz4fj/Jl5Lgwaep+JMkePDNU/K3JHjwV8r46fN//nlEpDMPAQA=
                """) ?? Data())

    @Test func readsWhatGzipWrote() throws {
        #expect(try GzipReader.decompress(Self.hello, byteCountMax: 100) == Array("hello hello hello hello\n".utf8))
        let lines = (0..<2000).map { "{\"number\": \($0), \"square\": \($0 * $0)}\n" }.joined()
        #expect(try GzipReader.decompress(Self.long, byteCountMax: 1 << 20) == Array(lines.utf8))
        #expect(try GzipReader.decompress(Self.hello + Self.hello, byteCountMax: 100).count == 48)
    }

    @Test func stopsAtTheLimit() {
        #expect(throws: DecodingFailure.self) { try GzipReader.decompress(Self.hello, byteCountMax: 23) }
        #expect(throws: DecodingFailure.self) { try GzipReader.decompress(Self.long, byteCountMax: 1000) }
    }

    /// Every cut and every damaged byte is refused or read, never a trap.
    @Test func damageIsRefused() {
        for count in 0..<Self.hello.count {
            #expect(throws: DecodingFailure.self) {
                try GzipReader.decompress(Array(Self.hello[..<count]), byteCountMax: 100)
            }
        }
        for position in stride(from: 0, to: Self.long.count, by: 7) {
            var bytes = Self.long
            bytes[position] ^= UInt8(truncatingIfNeeded: position &* 31 | 1)
            _ = try? GzipReader.decompress(bytes, byteCountMax: 1 << 20)
        }
        for seed in UInt64(1)..<300 {
            var state = seed
            let bytes = (0..<64).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            }
            _ = try? GzipReader.decompress([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3] + bytes, byteCountMax: 4096)
        }
    }
}
