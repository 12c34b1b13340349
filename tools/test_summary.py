"""Counts test cases in a Bazel build event file (one JSON event per line).

Prints which targets failed and, as its last line, "N passed, N failed,
N skipped". Exit status 1 if anything failed or nothing ran.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree


def read_events(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def count_cases(xml_path):
    """(passed, failed, skipped), or None if the file tells nothing."""
    try:
        root = ElementTree.parse(xml_path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("result") == "skipped":
            skipped += 1
        elif case.get("status") == "notrun":
            continue  # disabled by name, or filtered out
        else:
            passed += 1
    return passed, failed, skipped


def xml_of(result):
    for output in result.get("testActionOutput", []):
        if output.get("name") == "test.xml":
            return urllib.parse.unquote(output["uri"].removeprefix("file://"))
    return None


def main():
    passed = failed = skipped = 0
    ran = set()
    broken = set()
    for event in read_events(sys.argv[1]):
        ident = event.get("id", {})
        if "testResult" in ident and "testResult" in event:
            label = ident["testResult"]["label"]
            result = event["testResult"]
            ran.add(label)
            counts = count_cases(xml_of(result)) if xml_of(result) else None
            ok = result.get("status") in ("PASSED", "FLAKY")
            # A crash or a time-out leaves no count, or one that hides it.
            if counts is None or (not ok and counts[1] == 0):
                counts = (1, 0, 0) if ok else (0, 1, 0)
            passed += counts[0]
            failed += counts[1]
            skipped += counts[2]
            if not ok:
                broken.add(label)
        elif "targetCompleted" in ident:
            completed = event.get("completed", {})
            if not completed.get("success", False):
                broken.add(ident["targetCompleted"]["label"])
    unbuilt = broken - ran
    failed += len(unbuilt)
    for label in sorted(broken):
        print(f"{'not built' if label in unbuilt else 'failed'}: {label}")
    print(f"{len(ran)} test programs")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
