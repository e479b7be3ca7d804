"""Switchboard, Fisher and the Hub5 test sets: telephone speech from LDC's discs."""
