"""Judges that grade query-product pairs: guideline, prompt, graders, labelling, agreement gate and engagement audit."""
