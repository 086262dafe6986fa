#!/usr/bin/python3
"""What `snapkeeper schedule preview` prints and how it exits. The instants themselves are preview_oracle.py's business."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""


def run(*args, **options):
    done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    return done.returncode, done.stdout, done.stderr


def preview(*args, **options):
    return run("schedule", "preview", *args, **options)


class PreviewTest(unittest.TestCase):
    def test_json_is_one_line_of_utc_instants(self):
        self.assertEqual(
            preview("0 * * * *", "--time-zone", "America/New_York", "--after", "2026-03-08T06:00:00Z", "--count", "2", "-o", "json"),
            (0, '{"instants":["2026-03-08T07:00:00Z","2026-03-08T08:00:00Z"]}\n', ""))

    def test_table_shows_the_local_time_with_its_offset(self):
        self.assertEqual(
            preview("30 2 * * *", "--time-zone", "Europe/Berlin", "--after", "2026-03-28T12:00:00+01:00", "--count", "2"),
            (0, "UTC                   Europe/Berlin\n"
                "2026-03-29T01:00:00Z  Sun 2026-03-29 03:00:00 +02:00\n"
                "2026-03-30T00:30:00Z  Mon 2026-03-30 02:30:00 +02:00\n", ""))

    def test_defaults_are_utc_now_and_ten(self):
        code, out, err = preview("@every 1h", "--output", "json")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(len(json.loads(out)["instants"]), 10)

    def test_takes_any_rfc3339_time(self):
        for after in ("2026-03-08T06:59:59.5Z", "2026-03-08T01:59:59-05:00", "2026-03-08T12:44:59+05:45"):
            self.assertEqual(preview("@hourly", "--after", after, "--count", "1", "-o", "json"),
                             (0, '{"instants":["2026-03-08T07:00:00Z"]}\n', ""), after)

    def test_the_list_is_shorter_where_the_years_run_out(self):
        self.assertEqual(preview("@yearly", "--after", "9997-01-01T00:00:00Z", "--count", "10000", "-o", "json"),
                         (0, '{"instants":["9998-01-01T00:00:00Z","9999-01-01T00:00:00Z"]}\n', ""))
        self.assertEqual(preview("@yearly", "--after", "9999-01-01T00:00:00Z", "-o", "json"), (0, '{"instants":[]}\n', ""))

    def test_gives_ten_thousand(self):
        code, out, _ = preview("* * * * *", "--after", "2026-01-01T00:00:00Z", "--count", "10000", "-o", "json")
        self.assertEqual(code, 0)
        instants = json.loads(out)["instants"]
        self.assertEqual((len(instants), instants[-1]), (10000, "2026-01-07T22:40:00Z"))

    def test_invalid_input_exits_2_with_one_line_on_stderr(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                ([], "EXPR"),
                ([""], "empty"),
                (["* * * *"], "4 fields"),
                (["61 * * * *"], "minute"),
                (["0 0 31 2 *"], "never fires"),
                (["bad\nline\n"], "field"),
                (["@hourly", "--time-zone", "Local"], "time zone"),
                (["@hourly", "--time-zone", "../UTC"], "time zone"),
                (["@hourly", "--count", "0"], "count"),
                (["@hourly", "--count", "10001"], "count"),
                (["@hourly", "--count", "-1"], "count"),
                (["@hourly", "--count", "many"], "count"),
                (["@hourly", "--count", "0x3"], "count 0x3"),
                (["@hourly", "--count", "99999999999999999999"], "count 99999999999999999999"),
                (["TZ=UTC * * * * *"], "--time-zone"),
                (["@hourly", "--after", ""], "after"),
                (["@hourly", "--after", "2026-03-08"], "after"),
                (["@hourly", "--after", "2026-03-08T07:00:00"], "after"),
                (["@hourly", "--after", "2026-03-08 07:00:00Z"], "after"),
                (["@hourly", "--after", "2026-02-30T07:00:00Z"], "after"),
                (["@hourly", "--after", "2026-03-08T24:00:00Z"], "after"),
                (["@hourly", "--after", "2026-03-08T07:00:00.Z"], "after"),
                (["@hourly", "--after", "2026-03-08T07:00:00+1:00"], "after"),
                (["@hourly", "--after", "12026-03-08T07:00:00Z"], "after"),
                (["@hourly", "--after", "infinite-future"], "after"),
                (["@hourly", "-o", "yaml"], "yaml"),
                (["@hourly", "@daily"], "@daily"),
                (["@hourly", "--frequency", "2"], "--frequency"),
                (["--batch", os.path.join(folder, "absent"), "-o", "json"], "No such file"),
                (["--batch", folder, "-o", "json"], "directory"),
                (["--batch", "", "-o", "json"], "--batch"),
                (["--batch", os.devnull], "-o json"),
                (["@hourly", "--batch", os.devnull, "-o", "json"], "--batch"),
                (["--count", "3", "--batch", os.devnull, "-o", "json"], "--batch"),
            ]
            for args, part in rows:
                with self.subTest(args=args):
                    code, out, err = preview(*args)
                    self.assertEqual((code, out), (2, ""))
                    self.assertRegex(err, r"\Asnapkeeper: [^\n]+\n\Z")
                    self.assertIn(part, err)
        for args in ([], ["schedule"], ["unknown"], ["schedule", "unknown"]):
            code, out, err = run(*args)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), args)

    def test_batch_answers_every_line_in_order_and_exits_0(self):
        one = '{"instants":["2026-01-01T01:00:00Z"]}'
        rows = [
            ('{"schedule":"@hourly","timeZone":"UTC","after":"2026-01-01T00:00:00Z","count":1}', one),
            ('{"count":1,"after":"2026-01-01T00:00:00Z","schedule":"@hourly"} \r', one),
            ('{"schedule":"61 * * * *","timeZone":"UTC","after":"2026-01-01T00:00:00Z","count":1}', "minute"),
            ('{"schedule":"@hourly","timeZone":"No/Where","after":"2026-01-01T00:00:00Z","count":1}', "time zone"),
            ('{"schedule":"@hourly","timeZone":"UTC","after":"yesterday","count":1}', "after"),
            ('{"schedule":"@hourly","timeZone":"UTC","after":"2026-01-01T00:00:00Z","count":0}', "count"),
            ('{"schedule":"@hourly","timeZone":"UTC","after":"2026-01-01T00:00:00Z","count":-1}', "count -1:"),
            ('{"schedule":"@hourly","count":9223372036854775808}', "count 9223372036854775808:"),
            ('{"schedule":"@hourly","count":18446744073709551615}', "count 18446744073709551615:"),
            ('{"schedule":"@hourly","count":1.5}', "count"),
            ('{"schedule":"@hourly","count":"1"}', "count"),
            ('{"schedule":"@hourly","timezone":"UTC"}', "timezone"),
            ('{"schedule":5}', "schedule"),
            ('{"schedule":"\\u0000\\u00e9\\n"}', "field"),
            ("{}", "empty"),
            ("", "JSON"),
            ("[]", "JSON"),
            ('{"schedule":', "JSON"),
            ("[" * 100000, "JSON"),
            ('{"schedule":"\udcff"}', "JSON"),
            ('{"schedule":"@hourly","timeZone":"","after":"2026-01-01T00:00:00Z","count":1}', one),
        ]
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape", newline="") as batch:
            batch.write("\n".join(line for line, _ in rows))
            batch.flush()
            code, out, err = preview("--batch", batch.name, "-o", "json")
        self.assertEqual((code, err), (0, ""))
        answers = out.splitlines()
        self.assertEqual(len(answers), len(rows))
        for (line, want), answer in zip(rows, answers):
            with self.subTest(line=line[:100]):
                if want.startswith("{"):
                    self.assertEqual(answer, want)
                else:
                    self.assertEqual(list(json.loads(answer)), ["error"])
                    self.assertIn(want, json.loads(answer)["error"])

    def test_an_empty_batch_gives_nothing(self):
        self.assertEqual(preview("--batch", os.devnull, "-o", "json"), (0, "", ""))

    def test_output_that_cannot_be_written_exits_1(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "schedule", "preview", "@hourly"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))

    def test_version_and_help(self):
        self.assertRegex(run("--version")[1], r"\Asnapkeeper \d+\.\d+\.\d+\n\Z")
        for args in (["--help"], ["schedule", "--help"], ["schedule", "preview", "--help"]):
            code, out, err = run(*args)
            self.assertEqual((code, err), (0, ""))
            self.assertIn("Usage: snapkeeper", out)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
