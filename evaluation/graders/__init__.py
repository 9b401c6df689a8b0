"""Graders: how good an answer is compared with the reference, 0 to 1.

`grader_choice.choose_grader` picks a kind by what is expected or by the shape of the references, and
`text_graders.grader` gives the function of a text kind. `llm_judge` and `command_grader` build what is asked and read
what comes back; calling a model or running a command is the caller's.
"""
