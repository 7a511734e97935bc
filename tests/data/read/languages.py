"""A lease in seventeen languages, and the encodings in which such texts are found."""

# ruff: noqa: RUF001

SAMPLES = {
    "de": (
        "Der Mieter trägt die Kosten für Schönheitsreparaturen; größere Schäden übernimmt der Vermieter. Ein "
        "Vertrag kann mit einer Frist von drei Monaten gekündigt werden, wenn er schriftlich für beide Seiten"
        " erklärt wird. "
    ),
    "fr": (
        "Le locataire paie le loyer le premier jour de chaque mois, et le propriétaire maintient le toit en "
        "bon état. Après un délai de trois mois, chacune des parties peut résilier le contrat à l'amiable. "
    ),
    "pl": (
        "Najemca płaci czynsz pierwszego dnia każdego miesiąca, a właściciel utrzymuje dach w dobrym stanie. "
        "Każda ze stron może wypowiedzieć umowę z trzymiesięcznym wyprzedzeniem, na piśmie. Źródło, żółć, "
        "gęślą jaźń. "
    ),
    "cs": (
        "Nájemce platí nájemné první den každého měsíce a pronajímatel udržuje střechu v dobrém stavu. Každá "
        "ze stran může smlouvu vypovědět s tříměsíční lhůtou, písemně. Příliš žluťoučký kůň úpěl ďábelské "
        "ódy. "
    ),
    "hu": (
        "A bérlő minden hónap első napján fizeti a bérleti díjat, a tulajdonos pedig jó állapotban tartja a "
        "tetőt. Bármelyik fél három hónapos felmondási idővel, írásban felmondhatja a szerződést. Árvíztűrő "
        "tükörfúrógép. "
    ),
    "ru": (
        "Арендатор оплачивает расходы на ремонт, а более крупные повреждения устраняет арендодатель. Договор "
        "может быть расторгнут любой из сторон с уведомлением за три месяца, сделанным в письменной форме. "
    ),
    "el": (
        "Ο μισθωτής πληρώνει το ενοίκιο την πρώτη ημέρα κάθε μήνα και ο εκμισθωτής διατηρεί τη στέγη σε καλή "
        "κατάσταση. Κάθε πλευρά μπορεί να καταγγείλει τη σύμβαση με προειδοποίηση τριών μηνών. "
    ),
    "ja": (
        "賃借人は毎月の初日に家賃を支払い、貸主は屋根を良好な状態に保つものとする。いずれの当事者も、三か月前に書面で通知することにより、契約を終了させることができます。"
    ),
    "zh": (
        "承租人应于每月第一日支付租金，出租人应保持屋顶状况良好。任何一方均可提前三个月书面通知终止合同，但法律另有规定的除外。"
    ),
    "tw": (
        "承租人應於每月第一日支付租金，出租人應保持屋頂狀況良好。任何一方均可提前三個月書面通知終止合同，但法律另有規定的除外。"
    ),
    "ko": (
        "임차인은 매월 첫째 날에 임대료를 지불하고 임대인은 지붕을 양호한 상태로 유지합니다. 어느"
        " 쪽이든 삼 개월 전에 서면으로 통지"
        "하여 계약을 종료할 수 있습니다. "
    ),
    "tr": (
        "Kiracı her ayın ilk günü kirayı öder ve ev sahibi çatıyı iyi durumda tutar. Taraflardan her biri üç "
        "ay önceden yazılı bildirimde bulunarak sözleşmeyi feshedebilir; değişiklikler için şirket başvurusu "
        "gerekir. "
    ),
    "uk": (
        "Орендар сплачує орендну плату в перший день кожного місяця, а орендодавець утримує дах у доброму "
        "стані. Кожна зі сторін може розірвати договір, повідомивши про це за три місяці її письмово. "
    ),
    "ar": (
        "يدفع المستأجر الإيجار في اليوم الأول من كل شهر، ويحافظ المالك على السقف في حالة جيدة. يجوز لأي من "
        "الطرفين إنهاء العقد بإشعار كتابي قبل ثلاثة أشهر. "
    ),
    "he": (
        "השוכר משלם את דמי השכירות ביום הראשון של כל חודש, והמשכיר שומר על הגג במצב תקין. כל צד רשאי לסיים את"
        " החוזה בהודעה מוקדמת של שלושה חודשים בכתב. "
    ),
    "th": ("ผู้เช่าชำระค่าเช่าในวันแรกของทุกเดือน และผู้ให้เช่าดูแลหลังคาให้อยู่ในสภาพดี คู่สัญญาฝ่ายใดฝ่ายหนึ่งอาจบอกเลิกสัญญาได้โดยแจ้งล่วงหน้าสามเดือน "),
    "en": (
        "The tenant pays the rent — “on the first day” of each month, and the landlord’s duty is to keep the "
        "roof in good repair. Either party may end the lease with three months of notice. "
    ),
}
ENCODED = (
    ("de", "latin-1"),
    ("de", "cp1252"),
    ("fr", "latin-1"),
    ("fr", "cp1252"),
    ("en", "cp1252"),
    ("en", "mac-roman"),
    ("de", "mac-roman"),
    ("de", "cp850"),
    ("pl", "iso8859-2"),
    ("pl", "cp1250"),
    ("cs", "iso8859-2"),
    ("cs", "cp1250"),
    ("hu", "iso8859-2"),
    ("hu", "cp1250"),
    ("ru", "iso8859-5"),
    ("ru", "cp1251"),
    ("ru", "koi8-r"),
    ("ru", "cp866"),
    ("uk", "cp1251"),
    ("uk", "koi8-u"),
    ("el", "iso8859-7"),
    ("el", "cp1253"),
    ("tr", "iso8859-9"),
    ("tr", "cp1254"),
    ("ja", "shift_jis"),
    ("ja", "cp932"),
    ("ja", "euc_jp"),
    ("ja", "iso2022_jp"),
    ("zh", "gb18030"),
    ("zh", "gbk"),
    ("zh", "gb2312"),
    ("tw", "big5"),
    ("ko", "euc_kr"),
    ("ko", "cp949"),
    ("ar", "cp1256"),
    ("ar", "iso8859-6"),
    ("he", "cp1255"),
    ("he", "iso8859-8"),
    ("th", "tis_620"),
    ("th", "cp874"),
    ("de", "utf-16-le"),
    ("de", "utf-16-be"),
    ("ru", "utf-16-le"),
    ("ja", "utf-16-le"),
    ("ja", "utf-16-be"),
    ("zh", "utf-16-le"),
    ("en", "utf-16-le"),
    ("de", "utf-32-le"),
    ("de", "utf-32-be"),
    ("ja", "utf-32-le"),
    ("ru", "utf-32-be"),
)
