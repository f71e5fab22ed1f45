"""Every training recipe on one small net, judged by AutoAttack."""
