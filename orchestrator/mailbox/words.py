"""What each thing in an outcome is called in the officer's mails, in English and Swedish.

The reader is a data protection officer who may have to answer for the words in court. So each says what is
known and how, and no more: "the vendor has promised" is not "erased". A word that is not in a table is
shown as the token it is, which is ugly, but true.
"""

from collections.abc import Mapping
from typing import Final, Literal

Tongue = Literal["en", "sv"]
Table = Mapping[str, str]

#: The word in the subject line; fixed, so that a subject can hold nothing else.
SUBJECT: Final[Mapping[Tongue, Table]] = {
    "en": {
        "escalated": "decision needed",
        "reminded": "decision still needed",
        "acted": "acted on",
        "completed": "completed",
        "rejected": "rejected",
        "cancelled": "cancelled",
        "corrected": "correction",
        "decision_refused": "decision not applied",
    },
    "sv": {
        "escalated": "beslut behövs",
        "reminded": "beslut behövs fortfarande",
        "acted": "åtgärdad",
        "completed": "slutförd",
        "rejected": "avslagen",
        "cancelled": "avbruten",
        "corrected": "rättelse",
        "decision_refused": "beslut ej tillämpat",
    },
}

#: What happened, as the first sentence.
HEADLINE: Final[Mapping[Tongue, Table]] = {
    "en": {
        "escalated": "A question about this request waits for your decision.",
        "reminded": "A question about this request still waits for your decision.",
        "acted": (
            "Every system has accepted or ended, and no notice to the person is outstanding (Art. 12(3)). "
            "It is NOT completed: proofs are still to come."
        ),
        "completed": "Every system has come to an end, as listed. Our key to the identifiers is destroyed.",
        "rejected": "The request was rejected by decision. Our key to the identifiers is destroyed.",
        "cancelled": "The request was cancelled by decision. Our key to the identifiers is destroyed.",
        "corrected": "A later report contradicts what was reported before.",
        "decision_refused": "A decision did not fit and was NOT applied; nothing was changed by it.",
    },
    "sv": {
        "escalated": "En fråga om denna begäran väntar på ditt beslut.",
        "reminded": "En fråga om denna begäran väntar fortfarande på ditt beslut.",
        "acted": (
            "Alla system har godtagit eller avslutats, och ingen underrättelse till personen återstår "
            "(art. 12.3). Den är INTE slutförd: bevis återstår."
        ),
        "completed": "Alla system är avslutade, enligt listan. Vår nyckel till identifierarna är förstörd.",
        "rejected": "Begäran avslogs genom beslut. Vår nyckel till identifierarna är förstörd.",
        "cancelled": "Begäran avbröts genom beslut. Vår nyckel till identifierarna är förstörd.",
        "corrected": "En senare uppgift motsäger det som rapporterats tidigare.",
        "decision_refused": "Ett beslut passade inte och har INTE tillämpats; inget har ändrats av det.",
    },
}

#: How strong the proof is, by the weakest grade of the systems.
GRADE: Final[Mapping[Tongue, Table]] = {
    "en": {
        "seen_absent": "The weakest of the proofs below: we looked ourselves, and it was not there.",
        "vendor_stated": (
            "The weakest of the proofs below: a vendor's own record states it; we have not seen it ourselves."
        ),
        "party_stated": (
            "The weakest of the proofs below: an agency or controller states it; we have no means to look."
        ),
        "vendor_promised": (
            "The weakest of the proofs below: a vendor has promised to erase. It has NOT been seen, nor "
            "reported as done."
        ),
        "unsaid": "The weakest of the proofs below: a handler says that it looked, and does NOT say where.",
        "none": "There is no proof below: nothing has been shown to be erased or absent.",
    },
    "sv": {
        "seen_absent": "Det svagaste beviset nedan: vi har själva tittat, och det fanns inte där.",
        "vendor_stated": (
            "Det svagaste beviset nedan: en leverantörs egna uppgifter; vi har inte själva sett det."
        ),
        "party_stated": (
            "Det svagaste beviset nedan: ett rekryteringsföretag eller en personuppgiftsansvarig uppger det; "
            "vi har ingen möjlighet att titta."
        ),
        "vendor_promised": (
            "Det svagaste beviset nedan: en leverantör har lovat radera. Det är INTE sett, och inte "
            "rapporterat som gjort."
        ),
        "unsaid": "Det svagaste beviset nedan: en hanterare uppger att den har letat, men INTE var.",
        "none": "Inget bevis finns nedan: inget har visats vara raderat eller frånvarande.",
    },
}

#: A system's line, by status and grade ("erased.seen_absent"), or by status alone.
STATUS: Final[Mapping[Tongue, Table]] = {
    "en": {
        "waiting": "not begun: waits for the systems before it",
        "locating": "being searched",
        "erasing": "being erased",
        "proving": "being looked at again; not proved yet",
        "retrying": "failed, and will be tried again",
        "accepted": "the vendor has accepted; NOT proved yet",
        "awaiting_party": "the party has been asked; no answer yet",
        "awaiting_subject": "waits for something only the person can give",
        "awaiting_decision": "waits for your decision",
        "erased": "erased, but with no proof on record",
        "erased.seen_absent": "erased, and seen absent",
        "erased.unsaid": "erased, as the handler says; it does NOT say where it looked",
        "erased.vendor_stated": "erased, as the vendor's own record states",
        "erased.party_stated": "erased, as the party states",
        "erased.vendor_promised": "NOT SEEN: the vendor has promised to erase, and nothing can be looked at",
        "absent": "nothing found, but with no proof on record",
        "absent.seen_absent": "nothing found, looking in the right account",
        "absent.unsaid": "nothing found, as the handler says; it does NOT say where it looked",
        "absent.vendor_stated": "nothing there, as the vendor's own record states",
        "absent.party_stated": "nothing there, as the party states",
        "absent.vendor_promised": "nothing there, as far as the vendor has promised",
        "anonymised": "anonymised, but with no proof on record",
        "anonymised.seen_absent": "anonymised, and seen to name nobody",
        "anonymised.unsaid": "anonymised, as the handler says; it does NOT say where it looked",
        "anonymised.vendor_stated": "anonymised, as the vendor's own record states",
        "anonymised.party_stated": "anonymised, as the party states",
        "anonymised.vendor_promised": "NOT SEEN: the vendor has promised to anonymise",
        "retained": "NOT ERASED: retained by law",
        "retained.party_stated": "NOT ERASED: retained by law, as the party states",
        "partly_retained": "RETAINED IN PART by law; the rest erased, but with no proof on record",
        "partly_retained.seen_absent": "RETAINED IN PART by law; the rest erased, and seen absent",
        "partly_retained.unsaid": (
            "RETAINED IN PART by law; the rest erased, as the handler says; it does NOT say where it looked"
        ),
        "partly_retained.vendor_stated": "RETAINED IN PART by law; the rest erased, as the vendor states",
        "partly_retained.party_stated": "RETAINED IN PART by law; the rest erased, as the party states",
        "partly_retained.vendor_promised": "RETAINED IN PART by law; the rest NOT SEEN, but promised",
        "holds_nothing": "considered; holds nothing that could be traced to a person",
        "not_identifiable": "NOT ERASED: nobody could be identified (Art. 11)",
        "refused": "NOT ERASED: the controller refused",
        "waived": "NOT ERASED here as far as is known: waived by decision",
        "stopped": "stopped before its end; what had been done stands",
    },
    "sv": {
        "waiting": "inte påbörjat: väntar på systemen före",
        "locating": "genomsöks",
        "erasing": "raderas",
        "proving": "kontrolleras; ännu inte bevisat",
        "retrying": "misslyckades, och försöks igen",
        "accepted": "leverantören har godtagit; ännu INTE bevisat",
        "awaiting_party": "parten är tillfrågad; inget svar ännu",
        "awaiting_subject": "väntar på något som bara personen kan ge",
        "awaiting_decision": "väntar på ditt beslut",
        "erased": "raderat, men utan bevis",
        "erased.seen_absent": "raderat, och sett borta",
        "erased.unsaid": "raderat, enligt hanteraren; den uppger INTE var den har letat",
        "erased.vendor_stated": "raderat, enligt leverantörens egen uppgift",
        "erased.party_stated": "raderat, enligt partens uppgift",
        "erased.vendor_promised": "INTE SETT: leverantören har lovat radera, och inget finns att titta på",
        "absent": "inget funnet, men utan bevis",
        "absent.seen_absent": "inget funnet, vid sökning i rätt konto",
        "absent.unsaid": "inget funnet, enligt hanteraren; den uppger INTE var den har letat",
        "absent.vendor_stated": "inget där, enligt leverantörens egen uppgift",
        "absent.party_stated": "inget där, enligt partens uppgift",
        "absent.vendor_promised": "inget där, så långt leverantören har lovat",
        "anonymised": "anonymiserat, men utan bevis",
        "anonymised.seen_absent": "anonymiserat, och sett att ingen nämns",
        "anonymised.unsaid": "anonymiserat, enligt hanteraren; den uppger INTE var den har letat",
        "anonymised.vendor_stated": "anonymiserat, enligt leverantörens egen uppgift",
        "anonymised.party_stated": "anonymiserat, enligt partens uppgift",
        "anonymised.vendor_promised": "INTE SETT: leverantören har lovat anonymisera",
        "retained": "INTE RADERAT: bevaras enligt lag",
        "retained.party_stated": "INTE RADERAT: bevaras enligt lag, enligt partens uppgift",
        "partly_retained": "DELVIS BEVARAT enligt lag; resten raderat, men utan bevis",
        "partly_retained.seen_absent": "DELVIS BEVARAT enligt lag; resten raderat, och sett borta",
        "partly_retained.unsaid": (
            "DELVIS BEVARAT enligt lag; resten raderat, enligt hanteraren; den uppger INTE var den har letat"
        ),
        "partly_retained.vendor_stated": "DELVIS BEVARAT enligt lag; resten raderat, enligt leverantören",
        "partly_retained.party_stated": "DELVIS BEVARAT enligt lag; resten raderat, enligt parten",
        "partly_retained.vendor_promised": "DELVIS BEVARAT enligt lag; resten INTE SETT, men utlovat",
        "holds_nothing": "prövat; innehåller inget som kan härledas till en person",
        "not_identifiable": "INTE RADERAT: ingen kunde identifieras (art. 11)",
        "refused": "INTE RADERAT: den personuppgiftsansvarige vägrade",
        "waived": "INTE RADERAT här, så vitt är känt: undantaget genom beslut",
        "stopped": "stoppat före slutet; det som hann göras står fast",
    },
}

#: Why a decision was not applied, or what a correction is about.
CODE: Final[Mapping[Tongue, Table]] = {
    "en": {
        "request_ended": "The request had ended already.",
        "reason_missing": "This decision needs a reason.",
        "names_no_escalation": "It named no open question.",
        "no_such_escalation": "The question it named is not open any more, or never was.",
        "other_version": "The question had changed since; read it again below, if it is still open.",
        "action_does_not_fit": "The action does not belong to the question.",
        "still_unknown": "The system is still not configured.",
        "already_closing": "The request was closing already.",
        "already_extended": "The period was extended before.",
        "already_acted": "The person has been informed of action; there is no period left to extend.",
        "too_late": "The first month has passed; it can't be extended any more.",
        "quarantined": "The request is set aside, since a rule failed on it. Answer that question first.",
        "controller_refused": (
            "The controller refused to have its data erased. Only its own new word changes that, not ours."
        ),
        "named_by_controller": "Only the controller knows which system it meant, and can name another one.",
        "rule_failed": "A later report could not be applied, because a rule failed on it.",
        "ended_not_compared": (
            "A request came under the id of this one, which has ended. What this one asked is not kept any "
            "more, so the two were not compared. If it is no repeat, have it submitted under a new id."
        ),
        "broken_document": "A later report could not be applied: the request's saved state can't be read.",
        "request_id_conflict": "Another request arrived under the same id, and differs.",
        "answer_kept": (
            "A party answered about a system that is not in the settings; the answer is a dead letter."
        ),
        "unasked_confirmation": "A system that was not asked reported an effect on this person.",
        "located": "Records were found.",
        "still_present": "Records are still there.",
        "reappeared": "A record newer than the erasure is there.",
        "refused": "A party refused after all.",
        "failed": "An attempt failed after all.",
        "retained": "Data is retained after all.",
        "accepted": "An erasure was carried out after all.",
        "party_erased": "A party reported an erasure after all.",
    },
    "sv": {
        "request_ended": "Begäran var redan avslutad.",
        "reason_missing": "Beslutet kräver en motivering.",
        "names_no_escalation": "Det nämnde ingen öppen fråga.",
        "no_such_escalation": "Frågan det nämnde är inte längre öppen, eller har aldrig varit det.",
        "other_version": "Frågan hade ändrats; läs den igen nedan, om den fortfarande är öppen.",
        "action_does_not_fit": "Åtgärden hör inte till frågan.",
        "still_unknown": "Systemet är fortfarande inte konfigurerat.",
        "already_closing": "Begäran var redan under avslutning.",
        "already_extended": "Fristen är redan förlängd.",
        "already_acted": "Personen är underrättad om åtgärd; det finns ingen frist att förlänga.",
        "too_late": "Den första månaden har gått; fristen kan inte längre förlängas.",
        "quarantined": "Begäran är ställd åt sidan, eftersom en regel gick fel. Besvara den frågan först.",
        "controller_refused": (
            "Den personuppgiftsansvarige vägrade att få sina data raderade. Bara dess eget nya ord ändrar "
            "det, inte vårt."
        ),
        "named_by_controller": (
            "Bara den personuppgiftsansvarige vet vilket system som menades, och kan nämna ett annat."
        ),
        "rule_failed": "En senare uppgift kunde inte tillämpas, eftersom en regel gick fel för den.",
        "ended_not_compared": (
            "En begäran kom under samma id som denna, som är avslutad. Vad denna gällde sparas inte längre, "
            "så de har inte jämförts. Är den ingen upprepning: låt den lämnas in under ett nytt id."
        ),
        "broken_document": "En senare uppgift kunde inte tillämpas: begärans tillstånd kan inte läsas.",
        "request_id_conflict": "En annan begäran kom under samma id, med annat innehåll.",
        "answer_kept": (
            "En part svarade om ett system som inte finns i inställningarna; svaret sparas som dead letter."
        ),
        "unasked_confirmation": "Ett system som inte tillfrågats rapporterade en verkan för denna person.",
        "located": "Poster hittades.",
        "still_present": "Poster finns kvar.",
        "reappeared": "En post nyare än raderingen finns.",
        "refused": "En part vägrade trots allt.",
        "failed": "Ett försök misslyckades trots allt.",
        "retained": "Data bevaras trots allt.",
        "accepted": "En radering utfördes trots allt.",
        "party_erased": "En part rapporterade en radering trots allt.",
    },
}

#: What a code of a question means. The name of a place follows `place_unreadable`.
FAILURE: Final[Mapping[Tongue, Table]] = {
    "en": {
        "place_unreadable": "“{place}” could not be read; that does not count as empty.",
        "proof_in_fewer_places": "The proof looked in fewer places than the search, so it proves too little.",
        "times_contradict": (
            "The times in its signed messages contradict the order in which they reached us."
        ),
        "circuit_open": "The system has not answered for so long that it is left alone.",
        "unknown_system": "No worker knows the system. Do the workers have the orchestrator's settings?",
        "told_to_wait": "The system has said for so long that it must not be called.",
        "no_free_connection": "Our calls to the system take so long that none of ours gets its turn.",
        "resolver_busy": "The name server is too slow to find the system's address. Ask operations.",
        "resolver_silent": "The name server does not say where the system is. Ask operations.",
        "broken_document": (
            "The saved state of the request can't be read: another version wrote it, or somebody changed it. "
            "Nothing is done for the person until it is put back from a backup. If there is none, cancel and "
            "submit the request under a new id."
        ),
        "answer_too_large": (
            "The answer to the command is larger than the bus takes. What was asked of the system may be "
            "done. The operator finds more in the log."
        ),
        "command_too_large": (
            "The command is larger than the bus takes, so the system was never asked. The operator finds the "
            "topic in the log."
        ),
        "answer_about_less": (
            "The worker's answer doesn't say that it is about all that is known. Is an older worker running?"
        ),
        "earlier_erasure": (
            "An erasure was earlier than was known, so some of the records may have been made after it."
        ),
        "record_changed": "A record that was found is another one now; nothing was done to it.",
        "record_refused": "The vendor refused to delete a record, perhaps a user. All else was done.",
        "place_not_configured": "The settings say that a place is missing, and records were found in it.",
        "filter_not_honoured": "The vendor answered with records that nobody asked for; it was not believed.",
        "several_addresses": (
            "Several e-mail addresses are known, and none was chosen for letters. Submit the request once "
            "more under its id, with all identifiers and notice-to; or tell the person, then waive with how."
        ),
    },
    "sv": {
        "place_unreadable": "”{place}” kunde inte läsas; det räknas inte som tomt.",
        "proof_in_fewer_places": "Kontrollen letade på färre platser än sökningen, så den bevisar för lite.",
        "times_contradict": (
            "Tiderna i dess signerade meddelanden strider mot den ordning i vilken de nådde oss."
        ),
        "circuit_open": "Systemet har inte svarat på så länge att det lämnas i fred.",
        "unknown_system": "Ingen worker känner till systemet. Har de samma inställningar som orchestratorn?",
        "told_to_wait": "Systemet har så länge sagt att det inte får anropas.",
        "no_free_connection": "Våra anrop till systemet tar så lång tid att inget nytt får plats.",
        "resolver_busy": "Namnservern är så långsam att systemets adress inte hittas. Fråga driften.",
        "resolver_silent": "Namnservern säger inte var systemet finns. Fråga driften.",
        "broken_document": (
            "Begärans sparade tillstånd kan inte läsas: en annan version skrev det, eller någon ändrade det. "
            "Inget görs för personen förrän det är återställt från en säkerhetskopia. Finns ingen: välj "
            "cancel, och lämna in begäran under ett nytt id."
        ),
        "answer_too_large": (
            "Svaret på kommandot är större än bussen tar emot. Det som begärdes kan vara utfört; driften "
            "hittar ämnet och dess gräns i loggen."
        ),
        "command_too_large": (
            "Kommandot är större än bussen tar emot, så systemet tillfrågades aldrig. Driften hittar ämnet "
            "och dess gräns i loggen."
        ),
        "answer_about_less": "Svaret säger inte att det gäller allt som är känt. Kör en äldre worker ännu?",
        "earlier_erasure": (
            "En radering skedde tidigare än vad som var känt, så en del av posterna kan ha tillkommit senare."
        ),
        "record_changed": "En post som hittades är nu en annan; inget har gjorts med den.",
        "record_refused": "Leverantören vägrade radera en post, kanske en användares. Allt annat är gjort.",
        "place_not_configured": "Enligt inställningarna saknas en plats, men poster har hittats där.",
        "filter_not_honoured": "Leverantörens svar har poster som ingen frågade efter; det godtogs inte.",
        "several_addresses": (
            "Flera e-postadresser är kända, och ingen är vald för brev. Lämna in begäran en gång till under "
            "dess id, med alla identifierare och notice-to; eller underrätta personen, och välj sedan waive "
            "och ange hur."
        ),
    },
}

#: The labels of the lines.
LABEL: Final[Mapping[Tongue, Table]] = {
    "en": {
        "request": "Request",
        "received": "Received",
        "due": "Due",
        "due_by": "by the end of {day}",
        "left": "{count} days left",
        "left_one": "1 day left",
        "left_none": "today is the last day",
        "overdue": "OVERDUE: the period has run out",
        "met": "acted on {at}, in time",
        "late": "acted on {at}, LATE",
        "systems": "Systems",
        "found": "{count} found",
        "erased": "{count} erased",
        "accepted": "{count} accepted for erasure",
        "until": "up to and including {day}",
        "until_unknown": "no end date known",
        "left_records": "LEFT, not erased: {what}",
        "kept_records": "KEPT, not erased: {what}",
        "unsubmitted": (
            "NOT SUBMITTED anywhere: {count} ids of sites or apps that no configured property has"
        ),
        "unsubmitted_one": "NOT SUBMITTED anywhere: 1 id of a site or app that no configured property has",
        "out_of_scope": "NOT SUBMITTED: ids of properties that are not part of this request: {count}",
        "looked": "looked in {places}",
        "by": "by {kinds}",
        "by_found": "by the records that were found",
        "not_by": "NOT by {kinds}",
        "not_looked": "NOT LOOKED IN: {places} ({reason})",
        "purge": "OUT OF REACH, but NOT purged yet: the vendor purges it by {day}",
        "purge_unknown": "OUT OF REACH, but NOT purged yet: when the vendor purges it is not known",
        "needs": "it needs: {what}",
        "reason": "reason: {text}",
        "contradicted": "CONTRADICTED by a later report ({code})",
        "withheld": "(withheld: it looks like personal data)",
        "questions": "Waiting for your decision",
        "no_questions": "Nothing waits for your decision.",
        "not_yet": "This can be decided once the request, which was set aside, has been released.",
        "about": "about {system}",
        "since": "since {at}",
        "code": "code {code}",
        "several": "Records with an address of the person's: {count}",
        "led_to": "Persons with other addresses, to whom a record of the person leads: {count}",
        "changed": "Records that were found, and that have none of the person's addresses by now: {count}",
        "created": "created from {first} to {last}",
        "head": "Timeline",
        "zone": "Times are in {zone}.",
        "not_everywhere": "It is NOT erased everywhere: see the lines in capitals.",
        "not_told": "No notice is mailed from here: telling the person is yours to do.",
        "broken": "This outcome could not be put into words. See it with: radera status {request}",
    },
    "sv": {
        "request": "Begäran",
        "received": "Mottagen",
        "due": "Frist",
        "due_by": "till och med {day}",
        "left": "{count} dagar kvar",
        "left_one": "1 dag kvar",
        "left_none": "i dag är sista dagen",
        "overdue": "FÖRSENAD: fristen har gått ut",
        "met": "åtgärdad {at}, i tid",
        "late": "åtgärdad {at}, FÖR SENT",
        "systems": "System",
        "found": "funna: {count}",
        "erased": "raderade: {count}",
        "accepted": "godtagna för radering: {count}",
        "until": "till och med {day}",
        "until_unknown": "inget slutdatum känt",
        "left_records": "KVARLÄMNAT, inte raderat: {what}",
        "kept_records": "BEHÅLLET, inte raderat: {what}",
        "unsubmitted": "INTE BEGÄRT någonstans: {count} id för webbplatser eller appar utan egendom",
        "unsubmitted_one": "INTE BEGÄRT någonstans: 1 id för en webbplats eller app utan egendom",
        "out_of_scope": "INTE BEGÄRT: id för egendomar som inte ingår i denna begäran: {count}",
        "looked": "letat i {places}",
        "by": "på {kinds}",
        "by_found": "via de poster som hittades",
        "not_by": "INTE på {kinds}",
        "not_looked": "INTE LETAT I: {places} ({reason})",
        "purge": "UTOM RÄCKHÅLL, men ännu INTE gallrat: leverantören gallrar det senast {day}",
        "purge_unknown": "UTOM RÄCKHÅLL, men ännu INTE gallrat: när leverantören gallrar det är inte känt",
        "needs": "det behöver: {what}",
        "reason": "skäl: {text}",
        "contradicted": "MOTSAGT av en senare uppgift ({code})",
        "withheld": "(utelämnat: det liknar personuppgifter)",
        "questions": "Väntar på ditt beslut",
        "no_questions": "Inget väntar på ditt beslut.",
        "not_yet": "Detta kan avgöras när begäran, som är ställd åt sidan, har släppts vidare.",
        "about": "om {system}",
        "since": "sedan {at}",
        "code": "kod {code}",
        "several": "Poster med en av personens adresser: {count}",
        "led_to": "Personer med andra adresser, som en av personens poster leder till: {count}",
        "changed": "Poster som hittades och som inte längre har någon av personens adresser: {count}",
        "created": "skapade från {first} till {last}",
        "head": "Tidslinje",
        "zone": "Tider anges i {zone}.",
        "not_everywhere": "Det är INTE raderat överallt: se raderna med versaler.",
        "not_told": "Ingen underrättelse sänds härifrån: att underrätta personen är din uppgift.",
        "broken": "Utfallet kunde inte sättas i ord. Se det med: radera status {request}",
    },
}
