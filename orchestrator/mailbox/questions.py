"""What each question to the data protection officer asks, in English and Swedish.

The sentence says what is known, what is not done meanwhile, and what a decision would do.
"""

import re
from collections.abc import Mapping
from typing import Final

from orchestrator.mailbox.words import Table, Tongue

_NUMBERED: Final = re.compile(r"(?P<at>[1-9][0-9]*)_of_(?P<total>[1-9][0-9]*)")


def numbered(system: str) -> dict[str, str] | None:
    """Return which of how many systems a controller named, where it is known by its place alone."""
    found = _NUMBERED.fullmatch(system)
    return None if found is None else found.groupdict()


#: What an escalation asks, by its reason.
QUESTION: Final[Mapping[Tongue, Table]] = {
    "en": {
        "identity_unverified": "Is the person who they say they are? Nobody has verified it yet.",
        "unreadable_request": "A request arrived that can't be read. Find out who sent it: a period may run.",
        "key_lost": (
            "The request's key is lost, as was declared. Nobody can read whom the request is about, nor what "
            "was found. Have the person, or whoever handed it in, hand it in anew under another id, and then "
            "cancel this one and say so. If the key has been found and put back, waive."
        ),
        "no_usable_identifier": "The request names nobody that could be looked for.",
        "empty_scope": "No configured system is in the request's scope.",
        "received_in_future": "The time of receipt lay in the future; the clock runs from now.",
        "receipt_in_doubt": (
            "The clock was wrong when the request was received, so two days of receipt are possible: the one "
            "recorded above, and the one in the code of this question. The earlier one counts for the alarms "
            "until you decide. Verify takes the day in the code, and the due date moves with it; waive keeps "
            "the recorded one. The log of the mail or form that the request came by knows which is right."
        ),
        "request_id_conflict": "Another request arrived under the same id, and differs.",
        "nothing_identifiable": "No system could identify the person (Art. 11). May it end so?",
        "deadline_near": "The statutory period is about to run out.",
        "overdue": "The statutory period has run out, and the person has not been informed of action.",
        "acted_notice_failed": (
            "The person could not be told by mail what has been done. Tell them otherwise, then waive and "
            "say how."
        ),
        "rejected_notice_failed": (
            "The person could not be told by mail that the request is rejected (Art. 12(4)). Tell them "
            "otherwise, then waive and say how."
        ),
        "extended_notice_failed": (
            "The person could not be told by mail that the request takes longer. The extension holds only if "
            "they are told within the first month: tell them otherwise, then waive and say how."
        ),
        "acted_notice_silent": (
            "The mailbox has not confirmed the notice that tells the person what has been done. Retry sends "
            "it again; if you have told the person yourself, waive and say how."
        ),
        "rejected_notice_silent": (
            "The mailbox has not confirmed the notice that tells the person of the rejection. Retry sends it "
            "again; if you have told the person yourself, waive and say how."
        ),
        "extended_notice_silent": (
            "The mailbox has not confirmed the notice that tells the person that it takes longer. The "
            "extension holds only if they are told within the first month. Retry sends it again; if you have "
            "told the person yourself, waive and say how."
        ),
        "quarantined": (
            "A rule failed on this request. No system is asked anything more for it until you decide; what "
            "was asked before may still be carried out. Its alarms, reminders and letters go on, and a "
            "party's refusal counts at once. Retry releases it: do that once the fault is mended."
        ),
        "unknown_system": "The request names a system that is not configured.",
        "failed": "The last attempt failed, or the error will not pass by itself.",
        "no_answer": "The handler has not answered. Are its workers running?",
        "command_not_sent": (
            "The command for this system can't be written to its topic on Kafka: the topic is missing, or "
            "the orchestrator's account may not write to it. The system has been asked nothing, and the "
            "period runs on. Have the operator run `radera topics check` and make the topic, or give the "
            "right; the command goes out by itself then, and this question goes, too. Waive only if the "
            "system is to be left out."
        ),
        "predecessor_failed": "A system that must go first has failed. Retry starts this one anyway.",
        "still_present": "The records are still there after repeated erasure.",
        "proof_overdue": "The vendor's purge is long past due, and the proof is still to come.",
        "reappeared": "A newer record of the person was found; it may be new consent.",
        "ambiguous": (
            "Whose these records are can't be told: several have one address of the person, or what names "
            "the person led to one that has none of the addresses given. Erase takes those that were "
            "counted; retry looks again, once the records were put right."
        ),
        "party_silent": "The party has not answered its reminders.",
        "party_refused": "The party refuses to erase.",
        "identifier_missing": "An identifier is missing that the person could be asked for.",
        "instruction_conflict": (
            "The controller said erase, and then refuse. Nothing more is erased in its system unless the "
            "controller itself says erase again. Waive ends the system as it is."
        ),
        "words_disputed": (
            "Nobody can tell whether the controller's last word was erase or refuse: the times in its signed "
            "messages contradict the order in which they reached us, or an earlier version of Radera did not "
            "keep them. Nothing is erased there until the controller says anew what it wants: ask it to. "
            "Waive ends the system as it is."
        ),
        "refused_late": (
            "The party refused after its system was done with. What was erased there can't be undone."
        ),
        "refused_unread": (
            "The party had refused before its data was erased, but its refusal was read only after that. It "
            "can't be undone: tell the party."
        ),
        "instructed_late": (
            "The controller instructs to erase after all. This request has ended and its key is destroyed, "
            "so NOTHING is erased by it any more. Decide whether the person's data there is to be erased; "
            "if so, have the controller send the request anew, under a new id. Waive, and say how it was "
            "settled."
        ),
        "system_missing": (
            "The system is not in the settings any more, so nobody carries out what is still to be done "
            "there. Have the operator put it back under this name. If it is gone for good, waive: what is "
            "asked of it then is a question when it fails."
        ),
        "answer_kept": (
            "The party has answered, and no worker could take its answer: the system is not in the settings "
            "under this name. The answer is kept. Have the operator put the system back and replay it (by "
            "`radera dlq list` and `radera dlq replay`), then waive."
        ),
        "unasked_confirmation": "A system that was not asked reported an effect on this person.",
    },
    "sv": {
        "identity_unverified": "Är personen den som uppges? Ingen har kontrollerat det ännu.",
        "unreadable_request": (
            "En begäran kom som inte kan läsas. Ta reda på vem som sände den: en frist kan löpa."
        ),
        "key_lost": (
            "Begärans nyckel är förlorad, enligt vad som förklarats. Ingen kan läsa vem begäran gäller eller "
            "vad som hittats. Låt personen, eller den som lämnade in den, lämna in den på nytt med ett annat "
            "id, avbryt sedan den här och ange det. Om nyckeln har hittats och lagts tillbaka, avstå."
        ),
        "no_usable_identifier": "Begäran nämner ingen som går att söka efter.",
        "empty_scope": "Inget konfigurerat system omfattas av begäran.",
        "received_in_future": "Tidpunkten för mottagandet låg i framtiden; fristen löper från nu.",
        "receipt_in_doubt": (
            "Klockan gick fel när begäran togs emot, så två mottagningsdagar är möjliga: den som är "
            "registrerad ovan, och den i frågans kod. Den tidigare gäller för larmen tills du bestämmer. "
            "Verify väljer dagen i koden, och förfallodagen flyttas med den; waive behåller den "
            "registrerade. Loggen över e-posten eller formuläret som begäran kom genom vet vilken "
            "dag som är rätt."
        ),
        "request_id_conflict": "En annan begäran kom under samma id, med annat innehåll.",
        "nothing_identifiable": "Inget system kunde identifiera personen (art. 11). Får det sluta så?",
        "deadline_near": "Den lagstadgade fristen går snart ut.",
        "overdue": "Den lagstadgade fristen har gått ut, och personen har inte underrättats om åtgärd.",
        "acted_notice_failed": (
            "Personen kunde inte underrättas per e-post om vad som gjorts. Underrätta på annat sätt, välj "
            "sedan waive och ange hur."
        ),
        "rejected_notice_failed": (
            "Personen kunde inte underrättas per e-post om att begäran avslås (art. 12.4). Underrätta på "
            "annat sätt, välj sedan waive och ange hur."
        ),
        "extended_notice_failed": (
            "Personen kunde inte underrättas per e-post om att begäran tar längre tid. Förlängningen gäller "
            "bara om personen underrättas inom den första månaden: underrätta på annat sätt, välj sedan "
            "waive och ange hur."
        ),
        "acted_notice_silent": (
            "E-postprocessen har inte bekräftat underrättelsen till personen om vad som gjorts. Retry sänder "
            "den igen; har du själv underrättat personen, välj waive och ange hur."
        ),
        "rejected_notice_silent": (
            "E-postprocessen har inte bekräftat underrättelsen till personen om avslaget. Retry sänder den "
            "igen; har du själv underrättat personen, välj waive och ange hur."
        ),
        "extended_notice_silent": (
            "E-postprocessen har inte bekräftat underrättelsen till personen om att det tar längre tid. "
            "Förlängningen gäller bara om personen underrättas inom den första månaden. Retry sänder den "
            "igen; har du själv underrättat personen, välj waive och ange hur."
        ),
        "quarantined": (
            "En regel gick fel för denna begäran. Inget system tillfrågas mer för den förrän du beslutat; "
            "det som redan har begärts kan ännu utföras. Larm, påminnelser och brev går vidare, och en "
            "parts vägran gäller genast. Retry släpper den vidare: gör det när felet är rättat."
        ),
        "unknown_system": "Begäran nämner ett system som inte är konfigurerat.",
        "failed": "Det sista försöket misslyckades, eller så går felet inte över av sig självt.",
        "no_answer": "Hanteraren har inte svarat. Är dess processer igång?",
        "command_not_sent": (
            "Uppdraget till detta system kan inte skrivas till sin topic i Kafka: den saknas, eller så får "
            "orkestrerarens konto inte skriva dit. Systemet har inte tillfrågats om något, och tidsfristen "
            "löper. Låt driften köra `radera topics check` och skapa den eller ge rättigheten; då går "
            "uppdraget iväg av sig självt, och frågan försvinner. Välj waive bara om systemet ska utelämnas."
        ),
        "predecessor_failed": "Ett system som ska gå före har misslyckats. Retry startar detta ändå.",
        "still_present": "Posterna finns kvar efter upprepad radering.",
        "proof_overdue": "Leverantörens gallring är långt försenad, och beviset återstår.",
        "reappeared": "En nyare post om personen hittades; det kan vara ett nytt samtycke.",
        "ambiguous": (
            "Det går inte att avgöra vems posterna är: flera har en av personens adresser, eller så ledde "
            "något som nämner personen till en post utan någon av de angivna adresserna. Erase tar dem som "
            "räknades; retry söker igen, när posterna har rättats."
        ),
        "party_silent": "Parten har inte besvarat påminnelserna.",
        "party_refused": "Parten vägrar radera.",
        "identifier_missing": "En identifierare saknas som personen kan tillfrågas om.",
        "instruction_conflict": (
            "Den personuppgiftsansvarige sade radera, och sedan nej. Inget mer raderas i dess system om den "
            "inte själv säger radera igen. Waive avslutar systemet som det är."
        ),
        "words_disputed": (
            "Ingen kan avgöra om den personuppgiftsansvariges sista ord var radera eller nej: tiderna i dess "
            "signerade meddelanden strider mot den ordning i vilken de nådde oss, eller så sparade en "
            "tidigare version av Radera dem inte. Inget raderas där förrän den på nytt säger vad den vill: "
            "be den om det. Waive avslutar systemet som det är."
        ),
        "refused_late": (
            "Parten vägrade efter att dess system var klart. Det som raderats där kan inte göras ogjort."
        ),
        "refused_unread": (
            "Parten hade vägrat innan dess data raderades, men vägran lästes först efter det. Det kan inte "
            "göras ogjort: underrätta parten."
        ),
        "instructed_late": (
            "Den personuppgiftsansvarige vill ändå ha data raderade. Begäran är avslutad och dess nyckel "
            "förstörd, så INGET mer raderas genom den. Avgör om personens data där ska raderas; be i så fall "
            "den personuppgiftsansvarige sända begäran på nytt, under ett nytt id. Välj waive, och ange hur "
            "det löstes."
        ),
        "system_missing": (
            "Systemet finns inte längre i inställningarna, så ingen utför det som återstår där. Låt driften "
            "lägga tillbaka det under detta namn. Har det bytt namn eller är det borta: välj waive; det som "
            "sedan begärs av det blir en fråga när det misslyckas."
        ),
        "answer_kept": (
            "Parten har svarat, och ingen worker kunde ta emot svaret: systemet finns inte i inställningarna "
            "under detta namn. Svaret sparas. Låt driften lägga tillbaka systemet och spela upp det igen "
            "(`radera dlq list`, `radera dlq replay`), och välj sedan waive."
        ),
        "unasked_confirmation": "Ett system som inte tillfrågats rapporterade en verkan för denna person.",
    },
}

#: What a question about a system asks that the controller named and that is not configured.
NAMED_BY_CONTROLLER: Final[Mapping[Tongue, str]] = {
    "en": (
        "System {at} of {total} in the controller's request is not configured, so nothing has been looked "
        "for there. Only the controller knows what it calls so; if it asked over OpenDSR, our answer gave "
        "it its own words back. Ask it; waive if that system need not be searched."
    ),
    "sv": (
        "System {at} av {total} i den personuppgiftsansvariges begäran är inte konfigurerat, så inget har "
        "sökts där. Bara den personuppgiftsansvarige vet vad den kallar så; frågade den över OpenDSR gav "
        "vårt svar den dess egna ord tillbaka. Fråga den; välj waive om det systemet inte behöver genomsökas."
    ),
}

#: What such a system is called.
NUMBERED: Final[Mapping[Tongue, str]] = {
    "en": "system {at} of {total}",
    "sv": "system {at} av {total}",
}

#: Why a question is put once more.
AGAIN: Final[Mapping[Tongue, Table]] = {
    "en": {
        "supplemented": (
            "More identifiers were added to the request since this was asked. A decision on the version "
            "before is not applied."
        ),
        "counted_anew": (
            "Another number of records has been counted since this was asked. A decision on the version "
            "before is not applied."
        ),
        "found_more": (
            "More records have been found in this system since this was asked. A decision on the version "
            "before is not applied."
        ),
        "new_word": (
            "The controller has said something new about its data since this was asked. A decision on the "
            "version before is not applied."
        ),
        "notice_address_added": (
            "The address at which the person is told was added or changed since this was asked. A decision "
            "on the version before is not applied."
        ),
    },
    "sv": {
        "supplemented": (
            "Fler identifierare har lagts till i begäran sedan frågan ställdes. Ett beslut om versionen före "
            "tillämpas inte."
        ),
        "counted_anew": (
            "Ett annat antal poster har räknats sedan frågan ställdes. Ett beslut om versionen före "
            "tillämpas inte."
        ),
        "found_more": (
            "Fler poster har hittats i detta system sedan frågan ställdes. Ett beslut om versionen före "
            "tillämpas inte."
        ),
        "new_word": (
            "Den personuppgiftsansvarige har sagt något nytt om sina data sedan frågan ställdes. Ett beslut "
            "om versionen före tillämpas inte."
        ),
        "notice_address_added": (
            "Adressen som personen underrättas på har lagts till eller ändrats sedan frågan ställdes. Ett "
            "beslut om versionen före tillämpas inte."
        ),
    },
}
